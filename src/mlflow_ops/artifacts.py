"""Give a directory of artifacts other content, or the old again: artifacts VERB DIR [NAME [NAME]].

  await     make room in it for what is to come, where nothing is left of earlier
  exchange  put what has come in the place of what is there, which is kept by a name
  back      undo that, however far it had come; what had been put there is kept by a second name

The directory may be a file system of its own, or lie behind a link: it stays, and what is in it
changes places within that file system, so that nothing is copied. What is not in its place lies
below `.mlflow-aside` in it. All of it is the service's user's, who runs this.

Nothing but the standard library is used, so that any Python 3.9 or later runs it.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from . import durable
from .there import ASIDE, NO_ARTIFACTS

NEW = "new"  # what is to come
UNFINISHED = ".unfinished"  # behind the name of what is not whole, here or there


class Content:
    """What is in a directory of artifacts.

    Attributes:
        place: the directory.
        aside: where that is which is not in its place.
    """

    def __init__(self, place: Path) -> None:
        self.place, self.aside = place, place / ASIDE

    def here(self) -> Iterator[Path]:
        """Yield what is in its place, but for a file system's own."""
        return (path for path in [*self.place.iterdir()] if path.name not in NO_ARTIFACTS)

    def wait(self) -> None:
        """Make room for what is to come. Raises OSError."""
        self.aside.mkdir(mode=0o700, exist_ok=True)
        new = self.aside / NEW
        if new.is_symlink() or not new.is_dir():  # a link may lead to what she cannot look at
            new.unlink(missing_ok=True)
        else:
            shutil.rmtree(new)

    def exchange(self, name: str) -> None:
        """Put what has come in its place, and keep what was there. Raises OSError.

        Where it is cut off, `back` tells by the names what is where: in `<name>.unfinished` is some
        of what was there, in `<name>` all of it.
        """
        kept = self.aside / name
        moving = kept.with_name(name + UNFINISHED)
        moving.mkdir(mode=0o700)
        for path in self.here():
            path.rename(moving / path.name)
        moving.rename(kept)
        for path in [*(self.aside / NEW).iterdir()]:
            path.rename(self.place / path.name)
        (self.aside / NEW).rmdir()
        self.settle()

    def back(self, name: str, keep: str = NEW) -> None:
        """Undo an exchange; one that was not begun, and one that was undone, is no failure.

        Args:
            name: of the exchange.
            keep: what is in its place then gets this name; by default it waits again.

        Raises OSError: FileNotFoundError where the directory is not the one that it was.
        """
        if not self.aside.is_dir():
            raise FileNotFoundError(
                f"{self.place} has no {ASIDE}, where its content was put: is a disk not mounted?"
            )
        kept, gone = self.aside / name, self.aside / keep
        moving = kept.with_name(name + UNFINISHED)
        if kept.exists():
            gone.mkdir(mode=0o700, exist_ok=True)
            for path in self.here():
                path.rename(gone / path.name)
            kept.rename(moving)
        if moving.exists():
            for path in [*moving.iterdir()]:
                path.rename(self.place / path.name)
            moving.rmdir()
        self.settle()

    def settle(self) -> None:
        """Have it on the disk: who asked for it writes down, on another, that it is done."""
        with contextlib.suppress(OSError):  # of a share that knows no such thing
            durable.settle(self.place)


def main() -> int:
    """Do what the arguments say; return the exit code."""
    verb, place, *name = sys.argv[1:]
    content = Content(Path(place))
    try:
        if verb == "await":
            content.wait()
        elif verb == "exchange":
            content.exchange(*name)
        else:
            content.back(*name)
    except OSError as error:
        print(f"The artifacts in {place}: {error}", file=sys.stderr)
        return 1
    return 0
