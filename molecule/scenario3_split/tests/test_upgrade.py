"""Two servers share a database: what the one that leads ends with, both have."""

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


def refused(lab: Lab, server: str, environment: str, *play: str, **extra: str) -> str:
    """Return what a playbook says while a server starts in one environment alone."""
    check = f"readlink /opt/mlflow/current | grep -qx {environment}"
    only = f"[Service]\nExecStartPre=/bin/sh -c '{check}'\n"
    lab.root(
        server,
        f"install -d $(dirname {DROP_IN}); printf '%s' \"{only}\" > {DROP_IN}; "
        "systemctl daemon-reload",
    )
    try:
        return " ".join(lab.play(*play, code=2, **extra).split())
    finally:
        lab.root(server, f"rm {DROP_IN}; systemctl daemon-reload")


def test_servers_switch_together(lab: Lab, tmp_path: Path) -> None:
    # The same packages by another lock: another environment, as any new version is.
    lock = tmp_path / f"mlflow-{DEFAULT}.txt"
    lock.write_text(f"{LOCKS[DEFAULT].read_text()}# of the test\n")
    (old,) = environments(lab)
    upgrade = ["upgrade.yml", "--skip-tags", "smoke"]

    # The leader starts in the old environment alone: all have that one again.
    said = refused(lab, SERVERS[0], old, *upgrade, mlflow_lock=str(lock))
    assert "failed while the new version started" in said
    assert "The server that leads has put it back" in said
    assert environments(lab) == {old}

    # Another does: the databases are the new version's for good, and it is told where it is amiss.
    said = refused(lab, SERVERS[1], old, *upgrade, mlflow_lock=str(lock))
    assert f"{SERVERS[0]} serves the new version, and has the databases for it." in said
    assert f"{SERVERS[1]} does not" in said
    lab.root(SERVERS[1], "systemctl restart mlflow")
    (new,) = environments(lab)
    assert new != old

    said = " ".join(lab.play(*upgrade).split())
    for server in SERVERS:
        assert f"MLflow {DEFAULT} instead of {DEFAULT} on {server}" in said
    assert environments(lab) == {old}
