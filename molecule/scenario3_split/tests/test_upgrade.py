"""Two servers share a database: both switch to another environment, or none does."""

from pathlib import Path

from hosts import Lab
from versions import DEFAULT, LOCKS

SERVERS = ["server1.example.com", "server2.example.com"]
DROP_IN = "/run/systemd/system/mlflow.service.d/test.conf"


def environments(lab: Lab) -> set[str]:
    """Return the environments that serve, where the servers are ready."""
    ask = "mlflow-ready > /dev/null; readlink /opt/mlflow/current; ls -A /opt/mlflow"
    said = [lab.root(server, ask).split() for server in SERVERS]
    assert not [words for words in said if ".on-trial" in words]
    return {words[0] for words in said}


def test_servers_switch_together(lab: Lab, tmp_path: Path) -> None:
    # The same packages by another lock: another environment, as any new version is.
    lock = tmp_path / f"mlflow-{DEFAULT}.txt"
    lock.write_text(f"{LOCKS[DEFAULT].read_text()}# of the test\n")
    (old,) = environments(lab)
    upgrade = ["upgrade.yml", "--skip-tags", "smoke"]

    # The second server starts in the old environment alone.
    refuse = f"[Service]\nExecStartPre=/bin/sh -c 'readlink /opt/mlflow/current | grep -qx {old}'\n"
    lab.root(
        SERVERS[1],
        f"install -d $(dirname {DROP_IN}); printf '%s' \"{refuse}\" > {DROP_IN}; "
        "systemctl daemon-reload",
    )
    try:
        said = " ".join(lab.play(*upgrade, code=2, mlflow_lock=str(lock)).split())
    finally:
        lab.root(SERVERS[1], f"rm {DROP_IN}; systemctl daemon-reload")
    assert "failed while the new version started" in said
    assert "It did not work on another server" in said
    assert environments(lab) == {old}

    said = " ".join(lab.play(*upgrade, mlflow_lock=str(lock)).split())
    for server in SERVERS:
        assert f"MLflow {DEFAULT} instead of {DEFAULT} on {server}" in said
    (new,) = environments(lab)
    assert new != old
