"""What no test leaves to the next one of its process."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Put the umask back: the programs close it for themselves, and some run in this process.

    Without it a later test makes files that another user cannot read, on some machines only:
    which tests share a process depends on how fast each of them is.
    """
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)
