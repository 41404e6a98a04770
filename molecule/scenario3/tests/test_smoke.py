"""The smoke where the server means it ill, and with other rights of colleagues than the default."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from hosts import Lab, ended

SERVER = "mlflow.example.com"
DYNAMIC = range(61184, 65520)  # systemd's users for the time of one service
BY_HAND = """
sed -i 's/^default_permission = .*/default_permission = {}/' /etc/mlflow/basic_auth.ini
systemctl restart mlflow
"""


def test_a_server_that_was_taken_over_gains_nothing_on_a_client(lab: Lab) -> None:
    """Whoever loads a model there has no rank; the program in it says what it could do."""
    files = "/etc/mlflow/admin_password /etc/ssl/mlflow/ca.pem"
    arguments = f"https://{SERVER} {SERVER} 200 {files}"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lab.program, SERVER, "overwrite", "sudo python3", arguments=arguments)
        said = ended(lab.command("smoke.yml"), 2)
        heard: list[dict[str, Any]] = json.loads(waiting.result())
    assert "predictions the same" not in said.partition("A loads models:")[2][:60]
    assert heard  # or this test has shown nothing
    for seen in heard:
        assert seen["host"] != SERVER.partition(".")[0]
        assert seen["uid"] in DYNAMIC
        assert seen["capabilities"] == [0, 0, 0]
        for what in ("reads", "lists", "writes", "connects", "others", "words"):
            assert not seen[what], what


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
