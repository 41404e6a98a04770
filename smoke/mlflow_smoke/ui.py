"""`mlflow ui`, started as a person starts it in a directory."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType

from mlflow_smoke import http

DEADLINE = 120  # seconds until it must answer; it takes 5 when idle, and far longer under load
GRACE = 10  # seconds from SIGTERM to SIGKILL


class UserInterface:
    """A context with `mlflow ui` running in a directory; it ends with all its processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = TemporaryFile()

    def __enter__(self) -> UserInterface:
        """Starts it, without waiting until it answers."""
        self.started = time.monotonic()
        # A session of its own makes a process group of it and of its workers.
        self.process = subprocess.Popen(
            ["mlflow", "ui", "--port", str(self.port)],
            cwd=self.folder,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ends it and its workers."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, number)
                self.process.wait(GRACE)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
        self.log.close()

    def experiments(self) -> list[str]:
        """Names of the experiments that it shows, as soon as it answers.

        Raises:
            RuntimeError: when it ends, or does not answer in time; with the last line of its log.
        """
        while True:
            try:
                return http.experiments(f"http://127.0.0.1:{self.port}")
            except OSError as error:
                waited = time.monotonic() - self.started
                if self.process.poll() is not None:
                    raise RuntimeError(f"mlflow ui ended: {self.last_words()}") from error
                if waited > DEADLINE:
                    said = self.last_words()
                    raise RuntimeError(f"no answer in {waited:.0f} s: {said}") from error
                time.sleep(0.2)

    def last_words(self) -> str:
        """The last line of its log."""
        self.log.seek(0)
        lines = self.log.read().decode(errors="replace").splitlines()
        return lines[-1] if lines else "nothing in its log"
