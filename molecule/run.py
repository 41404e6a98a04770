#!/usr/bin/env python3
"""Test the playbooks on real hosts: run.py [--unit] [--keep] [--proof] [SCENARIO]...

Sees to the Docker engine, the images, a browser and promtool, takes the scenarios (all, or those
named) through check, converge and idempotence, three at a time, then runs one pytest over the
living hosts, so that its closing line counts everything. `molecule test -s SCENARIO` does the same
for one, more talkatively.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
LOG = ROOT / ".lab/log"
LAB = [sys.executable, str(HERE / "lab/lab.py")]
ACTIONS = ["check", "converge", "idempotence"]
# Most of the time is Ansible's own.
WARM = {
    "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "lab/callbacks"),
    "ANSIBLE_CALLBACKS_ENABLED": "warm",
}
# The hosts are not there yet when Ansible is asked to make them: without the lab's inventory.
STRICT = {"MOLECULE_ANSIBLE_ARGS_STRICT_MODE": "1"}
ENVIRONMENT = {**os.environ, **WARM, **STRICT, "NO_COLOR": "1"}
# What converge has proved, a run that changes nothing need not prove again.
ONCE = {"idempotence": {"ANSIBLE_SKIP_TAGS": "smoke"}}


def molecule(action: str, scenario: str) -> int:
    """Run one action, its output in a log, and return its exit code."""
    environment = {**ENVIRONMENT, **ONCE.get(action, {})}
    with (LOG / f"{scenario}-{action}.log").open("w") as log:
        return subprocess.call(
            ["molecule", action, "--scenario-name", scenario],
            cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip


def described(scenario: str) -> dict[str, Any]:
    """Return what a scenario's molecule.yml says."""
    return dict(yaml.safe_load((HERE / scenario / "molecule.yml").read_text()))


def size(scenario: str) -> tuple[int, int]:
    """Return how many hosts a scenario has, and how many files of tests."""
    return len(described(scenario)["platforms"]), len(
        list((HERE / scenario).glob("tests/test_*.py"))
    )


def actions(scenario: str) -> list[str]:
    """Return what there is to do with a scenario before its tests, in order."""
    own = described(scenario).get("scenario", {})
    return [action for action in ACTIONS if action in own.get("test_sequence", ACTIONS)]


def prepare(scenario: str) -> dict[str, int]:
    """Take a scenario from nothing to the state that its tests look at; return exit codes."""
    molecule("destroy", scenario)
    codes: dict[str, int] = {}
    for action in actions(scenario):
        began = time.monotonic()
        code = codes[action] = molecule(action, scenario)
        words = f"failed, see .lab/log/{scenario}-{action}.log" if code else "done"
        print(f"{scenario}: {action} {words} ({time.monotonic() - began:.0f} s)", flush=True)
        if code:
            break
    return codes


def main() -> int:
    """Read the command line and do it; return pytest's exit code."""
    there = sorted(path.parent.name for path in HERE.glob("*/molecule.yml"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(there))
    parser.add_argument("--unit", action="store_true", help="run the tests without hosts as well")
    parser.add_argument("--keep", action="store_true", help="leave the hosts for a closer look")
    parser.add_argument("--proof", action="store_true", help="run what is too long for each day")
    options = parser.parse_args()
    proofs = [path.parent.name for path in HERE.glob("*/proof")]
    scenarios = options.scenarios or (proofs if options.proof else there)
    if unknown := set(scenarios) - set(there):
        parser.error(f"no scenario {', '.join(unknown)}; there are: {', '.join(there)}")

    # Several at a time are done soonest when the largest come first.
    scenarios = sorted(scenarios, key=size, reverse=True)

    for step in ("engine", "images", "browser", "promtool", "earlier"):
        if subprocess.call([*LAB, step], stdout=subprocess.DEVNULL):
            return 1
    LOG.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(ROOT / ".lab/packed", ignore_errors=True)  # a module may have changed
    try:
        # Three on two cores, as below: two of them left the cores idle two fifths of the time.
        with ThreadPoolExecutor(3) as pool:
            results = dict(zip(scenarios, pool.map(prepare, scenarios), strict=True))
        (LOG / "actions.json").write_text(json.dumps(results))
        kind = "proof" if options.proof else "tests"
        tests = ["molecule/test_actions.py", *(f"molecule/{name}/{kind}" for name in scenarios)]
        tests += ["tests", "smoke/tests"] if options.unit else []
        # On two cores three at a time, since they also wait; a scenario without hosts is an error,
        # and no reason to stop.
        return subprocess.call(
            ["pytest", "--numprocesses=3", "--no-loadscope-reorder", "--durations=20",
             "--continue-on-collection-errors", *tests], cwd=ROOT, env={**os.environ, **WARM},
        )  # fmt: skip
    finally:
        if not options.keep:  # by Molecule, which remembers what it has made
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(lambda scenario: molecule("destroy", scenario), scenarios))


if __name__ == "__main__":
    sys.exit(main())
