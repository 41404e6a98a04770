"""What run.py had Molecule do before the tests: each action of each scenario ended well."""

import json
from pathlib import Path

import pytest

LOG = Path(__file__).resolve().parents[1] / ".lab/log"
RESULTS = json.loads((LOG / "actions.json").read_text()) if LOG.is_dir() else {}


@pytest.mark.parametrize("scenario, action", [(s, a) for s in RESULTS for a in RESULTS[s]])
def test_action(scenario: str, action: str) -> None:
    """A failed action shows the end of what it said."""
    log = LOG / f"{scenario}-{action}.log"
    if RESULTS[scenario][action] != 0:
        pytest.fail("\n".join(log.read_text().splitlines()[-60:]), pytrace=False)
