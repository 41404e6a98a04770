"""Backups of many artifacts: what they take of memory and time, where a set has all of them."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator

from bench._figures import Figure, say
from bench._hosts import run
from bench._playbooks import HERE

COUNTS = {"100,000": 100_000, "1,000,000": 1_000_000}
LIMIT = 150  # MB, of a program and of what it starts, however many artifacts there are


def measure() -> Iterator[Figure]:
    """Yield each step's memory and its seconds; needs rclone, and 2 million inodes in /var/tmp."""
    for words, count in COUNTS.items():
        say(f"backups of {words} artifacts")
        with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
            said = run(sys.executable, HERE / "backup-size.py", str(count), place)
        for step, found in json.loads(said).items():
            most = max(found["own"], found["others"]) / 1e6
            samples = {"program": [found["own"] / 1e6], "rclone": [found["others"] / 1e6],
                       "seconds": [found["seconds"]]}  # fmt: skip
            name = f"backup: {step}, {words} artifacts"
            yield Figure(name, round(most), "MB", LIMIT, "lower", samples, "MB, s")
