#!/usr/bin/env python3
"""The shape, in figures with limits: python tests/shared/house_counts.py; exit 1 beyond one.

Programs belong into the package or into a module, not into a role's files; tasks say what is
wanted, not which command to run; a failure is a module's sentence, not a code that is passed over.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers")


def files() -> list[Path]:
    """Return the files that git knows, links not."""
    said = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True)
    paths = (ROOT / name for name in said.splitlines())
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def tasks(node: object) -> Iterator[bool]:
    """Yield, for each task below a parsed YAML node, whether it runs a command."""
    if isinstance(node, list):
        for item in node:
            yield from tasks(item)
    elif isinstance(node, dict):
        keys = [key for key in node if isinstance(key, str)]
        if "name" in keys and any("." in key for key in keys):
            yield any(key.split(".")[-1] in ("command", "shell") for key in keys)
        for key in BLOCKS:
            yield from tasks(node.get(key))


def figures() -> dict[str, tuple[float, float]]:
    """Return each figure, and what it may be at most."""
    there = files()
    yml = [
        path for path in there
        if path.suffix == ".yml" and path.relative_to(ROOT).parts[0] in ("roles", "playbooks")
    ]  # fmt: skip
    commands = [one for path in yml for one in tasks(yaml.safe_load(path.read_text()))]
    text = "\n".join(path.read_text() for path in yml)
    loose = [
        path for path in there
        if re.fullmatch(r"roles/[^/]+/files/.*\.py", path.relative_to(ROOT).as_posix())
    ]  # fmt: skip
    passed_over = re.findall(r"failed_when: false|ignore_errors: true", text)
    return {
        "Python files below roles/*/files": (len(loose), 0),
        "command and shell, % of tasks": (round(100 * sum(commands) / len(commands), 1), 8),
        "failed_when: false and ignore_errors: true": (len(passed_over), 14),
        "from_json in YAML": (text.count("from_json"), 4),
    }


def main() -> int:
    """Print them."""
    found = figures()
    for name, (value, limit) in found.items():
        print(f"{name}: {value} (at most {limit})")
    return int(any(value > limit for value, limit in found.values()))


if __name__ == "__main__":
    sys.exit(main())
