"""What hosts show, held against the tables of docs/security.yml."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
TABLES: dict[str, Any] = yaml.safe_load((ROOT / "docs/security.yml").read_text())
SOCKETS = (ROOT / "molecule/lab/programs/sockets.py").read_text()

Root = Callable[[str], str]  # runs a shell script as root


def exposed(root: Root, *units: str) -> dict[str, float]:
    """Return how exposed units of a host are by systemd's measure, where that is too much."""
    found = {}
    for unit in units:
        said = root(f"systemd-analyze security --no-pager '{unit}' | tail -1")
        level = re.search(r"exposure level for \S+: ([0-9.]+)", said)
        if not level:
            pytest.fail(said)
        name = re.sub("@.*[.]", "@.", unit)
        if float(level[1]) > TABLES["units"][name]["at_most"]:
            found[unit] = float(level[1])
    return found


def listening(root: Root) -> list[dict[str, str]]:
    """Return what listens on a host: `socket`, as the table writes it, and `unit`."""
    said = root(f"python3 -I - <<'END_OF_PROGRAM'\n{SOCKETS}\nEND_OF_PROGRAM")
    return list(json.loads(said))


def surprises(scenario: str, *hosts: Root) -> list[str]:
    """Return what listens on a scenario's hosts and is not in the table, and what is not there."""
    rows = [row for row in TABLES["sockets"] if scenario in row["where"]]
    seen: set[int] = set()
    odd = []
    for one in (one for root in hosts for one in listening(root)):
        fits = [
            number
            for number, row in enumerate(rows)
            if fnmatchcase(one["unit"], row["unit"])
            and any(fnmatchcase(one["socket"], pattern) for pattern in row["listens"])
        ]
        seen.update(fits)
        if not fits:
            odd.append(f"{one['socket']} of {one['unit']} listens, and is not in the table")
    return odd + [
        f"{', '.join(row['listens'])} of {row['unit']} is in the table, and does not listen"
        for number, row in enumerate(rows)
        if number not in seen and "with" not in row
    ]
