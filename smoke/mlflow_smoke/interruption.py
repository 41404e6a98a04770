"""Being told to stop: the smoke cleans up before it ends."""

from __future__ import annotations

import signal
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class InterruptedBySignal(BaseException):
    """Somebody wants an end; not an Exception, so that no check takes it for its own failure."""

    def __init__(self, number: int) -> None:
        self.number = number


def heed() -> None:
    """From now on a signal raises `InterruptedBySignal`."""
    for number in SIGNALS:
        signal.signal(number, raise_interrupted)


def ignore() -> None:
    """From now on signals are ignored: cleaning up is short, and must not be cut short."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def raise_interrupted(number: int, _frame: FrameType | None) -> NoReturn:
    """Ends whatever goes on, by way of its `finally`."""
    ignore()
    raise InterruptedBySignal(number)
