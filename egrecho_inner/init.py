#!/usr/bin/env python3
"""`egrecho init`: a folder to work in, for an egrecho that was installed without its checkout.

    egrecho init my-recipe
    cd my-recipe && bash prepare.sh --help

Writes the stage scripts, their helpers in `local/` and the default configs in `config/`: copies, to be changed at will.
They come from the package (`recipe/`, put there when it is built) or, in a checkout, from the repository's root.
"""

from __future__ import annotations

import logging
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path

from egrecho_inner.config import run
from egrecho_inner.errors import ConfigError, MachineError
from egrecho_inner.runtime.files import write_text

logger = logging.getLogger(__name__)

PARTS = ("*.sh", "config/*.yaml", "config/*.json", "local/*.sh", "local/*.py")
"""What a recipe folder holds; setup.py packs the same."""
MADE = "local/environment.sh"
"""Written, not copied: an installed egrecho has an environment already."""
ENVIRONMENT = """\
#!/usr/bin/env bash
# Print the folder of the environment that egrecho was installed in when this recipe folder was made; path.sh calls this
# where no egrecho is on PATH.
#
#   bash local/environment.sh
#
#   EGRECHO_ENV=DIR          another environment
set -euo pipefail

made_with={environment}
env="${{EGRECHO_ENV:-$made_with}}"
if [ ! -x "$env/bin/egrecho" ]; then
  echo "error: no egrecho in $env; activate the environment that has it, or name its folder in EGRECHO_ENV" >&2
  exit 5
fi
echo "$env"
"""
README = """\
# {name}

Made by `egrecho init` of egrecho {version}: copies, yours to change.

```bash
bash prepare.sh --help     # Kaldi data directories -> cuts and features in data/
bash finetune.sh --help    # train, merge, evaluate in exp/
. ./path.sh                # egrecho by hand
egrecho -h
egrecho doctor -c config/train.yaml -c config/full.yaml --model MODEL --data.train '[CUTS]'
```

`config/` holds the shared defaults; give your own values in a YAML file of your own, `-c my.yaml` after them.
"""


def init(out: str, overwrite: bool = False) -> None:
    """Write a recipe folder: path.sh, prepare.sh, finetune.sh, config/ and local/.

    Args:
        out: Folder to make, or to complete.
        overwrite: Replace files that were changed since.
    """
    from egrecho_inner import __version__

    folder, source = Path(out).resolve(), recipe_folder()
    environment = Path(sysconfig.get_path("scripts")).parent
    texts = {
        str(path.relative_to(source)): path.read_text(encoding="utf-8")
        for part in PARTS
        for path in sorted(source.glob(part))
    }
    texts[MADE] = ENVIRONMENT.format(environment=shlex.quote(str(environment)))
    texts["README.md"] = README.format(name=folder.name, version=__version__)
    if folder == source:
        raise ConfigError(f"{out} is the checkout itself; give another folder")
    changed = [name for name, text in texts.items() if differs(folder / name, text)]
    if changed and not overwrite:
        raise ConfigError(
            f"{out} has files that differ: {', '.join(changed[:5])}{' ...' if changed[5:] else ''}; "
            "give another folder, or --overwrite true to replace them"
        )
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_text(folder / name, text)
        if text.startswith("#!"):
            (folder / name).chmod(0o755)
    logger.info("%s: %d files; next: cd %s && bash prepare.sh --help", out, len(texts), shlex.quote(out))
    if not (environment / "bin" / "egrecho").is_file() and shutil.which("egrecho") is None:
        logger.warning("no egrecho command in %s: the scripts need one on PATH (%s)", environment, sys.prefix)


init.positional = ["out"]


def recipe_folder() -> Path:
    """Return where the files of a recipe folder are.

    Raises:
        MachineError: Neither in the package nor in a checkout around it.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "recipe", package.parent):
        if (folder / "finetune.sh").is_file():
            return folder
    raise MachineError(f"{package / 'recipe'} is missing: this installation is incomplete; install egrecho again")


def differs(path: Path, text: str) -> bool:
    """Tell whether a file is there with another text."""
    return path.exists() and (not path.is_file() or path.read_bytes() != text.encode())


if __name__ == "__main__":
    run(init)
