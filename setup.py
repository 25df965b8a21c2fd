"""Pack stage scripts and default configs into the package, for `egrecho init`; all else stands in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PARTS = ("*.sh", "config/*.yaml", "config/*.json", "local/*.sh", "local/*.py")
"""As in egrecho_inner/init.py, which reads them."""


class BuildWithRecipe(build_py):
    """Copy what a recipe folder holds to `egrecho_inner/recipe/`."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:  # a checkout is there
            return
        root = Path(__file__).resolve().parent
        for part in PARTS:
            for path in sorted(root.glob(part)):
                place = Path(self.build_lib, "egrecho_inner", "recipe", path.relative_to(root))
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, place)


setup(cmdclass={"build_py": BuildWithRecipe})
