"""Data sets that clients put together file by file, without HTTP: each is a folder of its owner's, bounded in size.

In: tokens, names, files. Out: paths, or a `Refusal` with the answer's status. Another owner's data set is as if it were
not there. One that is deleted is renamed first, so that no request finds half of it.
"""

import json
import re
import shutil
import threading
import time
from pathlib import Path
from typing import Any

from egrecho_inner.serve.archive import ArchiveError, Taker
from egrecho_inner.serve.auth import Refusal, Token
from egrecho_inner.serve.options import Settings
from egrecho_inner.serve.store import new_id

ID = re.compile(r"[0-9a-f]{32}")
OWNER, FILES = "owner.json", "files"


class Datasets:
    """The data sets of all owners.

    Args:
        settings: Of the server.
    """

    def __init__(self, settings: Settings):
        self.place, self.limits = settings.datasets, settings.limits
        self.changing = threading.Lock()

    def new(self, token: Token) -> str:
        """Make an empty data set and return its id.

        Raises:
            Refusal: 429, the owner has too many.
        """
        with self.changing:
            if len(self.owned(token.name)) >= self.limits.datasets_per_owner:
                most = f"{self.limits.datasets_per_owner} data sets"
                raise Refusal(429, "too_many_datasets", f"you have {most}; GET /v1/datasets lists them, delete some")
            id = new_id()
            (self.place / id / FILES).mkdir(parents=True, mode=0o700)
            (self.place / id / OWNER).write_text(json.dumps({"owner": token.name}), encoding="utf-8")
            return id

    def owned(self, owner: str) -> list[dict[str, Any]]:
        """Return an owner's data sets, the oldest first."""
        found = []
        for path in self.place.iterdir():
            if owner_of(path) == owner:
                sizes = sizes_in(path / FILES)
                found.append({"id": path.name, "created": created(path), "files": len(sizes), "bytes": sum(sizes)})
        return sorted(found, key=lambda each: each["created"])

    def find(self, token: Token, id: str) -> Path:
        """Return the folder of a data set that a token may see.

        Raises:
            Refusal: 404.
        """
        owner = owner_of(self.place / id) if ID.fullmatch(id) else None
        if owner is None or (owner != token.name and not token.may("admin")):
            raise missing()
        return self.place / id

    def put(self, folder: Path, name: str, source: Path) -> None:
        """Put one file into a data set, in place of one of the same name.

        Raises:
            Refusal: 404 the data set was deleted meanwhile, 413, 422.
        """
        taken = folder / f"taken-{new_id()}"
        try:
            taken.mkdir(mode=0o700)
            with open(source, "rb") as content:
                path = Taker(taken, self.limits).take(name, content)
            with self.changing:
                self.check_room(folder / FILES, path)
                path.replace(folder / FILES / path.name)
        except ArchiveError as error:
            raise Refusal(error.status, error.code, str(error)) from error
        except FileNotFoundError as error:
            raise missing() from error
        finally:
            shutil.rmtree(taken, ignore_errors=True)

    def check_room(self, files: Path, path: Path) -> None:
        """Refuse a file more than a data set may have.

        Raises:
            Refusal: 413.
        """
        sizes = sizes_in(files)
        if len(sizes) >= self.limits.files:
            raise Refusal(413, "too_many_files", f"more than {self.limits.files:,} files")
        if sum(sizes) + path.stat().st_size > self.limits.unpacked_mb * 1e6:
            raise Refusal(413, "dataset_too_large", f"over {self.limits.unpacked_mb:,.0f} MB in one data set")

    def remove_file(self, folder: Path, name: str) -> None:
        """Take one file out of a data set.

        Raises:
            Refusal: 404.
        """
        with self.changing:
            found = {path.name: path for path in (folder / FILES).glob("*")}
            if name not in found:
                raise Refusal(404, "unknown_file", "there is no such file in the data set")
            found[name].unlink()

    def delete(self, folder: Path) -> None:
        """Delete a data set with all its files.

        Raises:
            Refusal: 404, another request was faster.
        """
        gone = self.place / f".gone-{new_id()}"
        try:
            folder.rename(gone)
        except FileNotFoundError as error:
            raise missing() from error
        shutil.rmtree(gone, ignore_errors=True)

    def sweep(self) -> None:
        """Remove what a server that was killed had begun to delete."""
        for path in self.place.glob(".gone-*"):
            shutil.rmtree(path, ignore_errors=True)


def missing() -> Refusal:
    """Return the answer about a data set that is not there, or another owner's."""
    return Refusal(404, "unknown_dataset", "there is no such data set")


def owner_of(path: Path) -> str | None:
    """Return whose data set a folder is; None where it is none."""
    try:
        return json.loads((path / OWNER).read_text(encoding="utf-8"))["owner"]
    except (OSError, ValueError):
        return None


def sizes_in(files: Path) -> list[int]:
    """Return the sizes of the files of a data set, which others may be changing."""
    sizes = []
    for path in files.glob("*"):
        try:
            sizes.append(path.stat().st_size)
        except FileNotFoundError:
            continue
    return sizes


def created(path: Path) -> float:
    """Return when a data set was made, as Unix time; now where it has just been deleted."""
    try:
        return (path / OWNER).stat().st_mtime
    except FileNotFoundError:
        return time.time()
