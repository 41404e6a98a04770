"""What a program has on the disk, and not only in the kernel's memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


def settled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of files and directories as they are written to the disk, one by one."""
    seen: list[str] = []
    fsync: Callable[[int], None] = os.fsync

    def noted(descriptor: int) -> None:
        seen.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    return seen
