"""Files that a power cut leaves as they were, or as they should become.

A kernel writes a file's name and its content when it likes, and the name may be first: then the
file is there, and empty.

Nothing but the standard library is used; Python 3.9 or later.
"""

from __future__ import annotations

import os
from pathlib import Path


def settle(path: Path) -> None:
    """Have a file's content, or the names in a directory, on the disk. Raises OSError."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def rename(fresh: Path, file: Path) -> None:
    """Give a file that is written whole its name. Raises OSError."""
    settle(fresh)
    fresh.rename(file)
    settle(file.parent)
