"""The smoke where somebody on the host means it ill, and where the server has users."""

import json
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = (ROOT / "molecule/lab/programs/overwrite.py").read_text()
DYNAMIC = range(61184, 65520)  # systemd's users for the time of one service

Run = Callable[..., str]


def test_what_is_in_a_model_has_no_rank(ssh: Run, playbook: Callable[..., list[str]]) -> None:
    """Any account of the host may overwrite the model before the smoke loads it."""
    command = "python3 - http://localhost:5000 localhost 200"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ssh, f"{command} <<'END_OF_PROGRAM'\n{PROGRAM}\nEND_OF_PROGRAM")
        subprocess.run(playbook("smoke.yml", user="ops"), capture_output=True, check=False)
        heard: list[dict[str, Any]] = json.loads(waiting.result())
    assert heard  # or this test has shown nothing
    for seen in heard:
        assert seen["uid"] in DYNAMIC
        assert seen["groups"] in ([], [seen["uid"]])
        assert seen["capabilities"] == [0, 0, 0]
        for what in ("reads", "lists", "writes", "connects", "others", "words"):
            assert not seen[what], what
    kept = "find / -xdev -name smoke-was-here -not -path '/proc/*' 2>&1 || true"
    assert "smoke-was-here" not in ssh(f"sudo {kept}", user="ops")
