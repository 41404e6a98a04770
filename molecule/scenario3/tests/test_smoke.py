"""The smoke where the server means it ill, and with other rights of colleagues than the default."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hosts import Lab

SERVER, CLIENT = "mlflow.example.com", "login1.example.com"
DYNAMIC = range(61184, 65520)  # systemd's users for the time of one service
BY_HAND = """
sed -i 's/^default_permission = .*/default_permission = {}/' /etc/mlflow/basic_auth.ini
systemctl restart mlflow
"""


def test_a_server_that_was_taken_over_gains_nothing_on_a_client(lab: Lab) -> None:
    """Whoever loads a model there has no rank; the program in it says what it could do."""
    # As long as lab.program waits at the most; it ends with the first word from the client.
    arguments = f"https://{SERVER} {SERVER} 280 /etc/mlflow/admin_password /etc/ssl/mlflow/ca.pem"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lab.program, SERVER, "overwrite", "sudo python3", arguments=arguments)
        said = lab.play("smoke.yml", code=2)
        heard: list[dict[str, Any]] = json.loads(waiting.result())
    assert "FAIL  A loads models:" in said
    assert heard  # or this test has shown nothing
    for seen in heard:
        assert seen["host"] == CLIENT
        assert seen["uid"] in DYNAMIC
        assert seen["groups"] in ([], [seen["uid"]])
        assert seen["capabilities"] == [0, 0, 0]
        for what in ("reads", "lists", "writes", "connects", "others"):
            assert not seen[what], what
        # What A loads with is her own, and she is gone when the smoke ends.
        assert seen["words"] == ["MLFLOW_TRACKING_PASSWORD"]
        assert seen["login"].startswith("smoke-a-")
    kept = "find / -xdev -name smoke-was-here -not -path '/proc/*' 2>&1 || true"
    assert "smoke-was-here" not in lab.root(CLIENT, kept)


def test_the_smoke_proves_what_was_asked_for(lab: Lab) -> None:
    """A second day: colleagues may see nothing of each other's; then everything; then as before."""
    try:
        said = lab.play("scenario3.yml", mlflow_server_auth_default_permission="NO_PERMISSIONS")
        assert "A's work in a search of B's" in said and "B may, with A's work" not in said
        lab.root(SERVER, BY_HAND.format("MANAGE"))
        said = lab.play("smoke.yml")
        assert "B may, with A's work" in said and "200, 11 times" in said
    finally:
        lab.root(SERVER, BY_HAND.format("READ"))
