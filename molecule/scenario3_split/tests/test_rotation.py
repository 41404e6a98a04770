"""The database's password, which two servers share, changes under a client that goes on working."""

import json
import re
import time
from pathlib import Path
from typing import Any

from hosts import Lab

SERVERS = ["server1.example.com", "server2.example.com"]
DATABASE, CLIENT = "db.example.com", "login.example.com"
KEPT = "/etc/postgresql/mlflow-password"


def accepts(lab: Lab, server: str, password: str) -> bool:
    """Tell whether the database accepts a password from a server."""
    options = "sslmode=verify-full&sslrootcert=/etc/ssl/mlflow/ca.pem"
    uri = f"postgresql://mlflow@{DATABASE}/mlflow?{options}"
    ask = f"/opt/mlflow/current/bin/python -c 'import psycopg; psycopg.connect(\"{uri}\")'"
    said = lab.root(server, f"PGPASSWORD={password} {ask} 2>&1 || true")
    assert not said or "Passwort-Authentifizierung" in said  # the database speaks German
    return not said


def password(lab: Lab) -> str:
    """Return the password that the database's host keeps."""
    return lab.root(DATABASE, f"cat {KEPT}").strip()


def test_a_client_goes_on_while_it_changes(lab: Lab) -> None:
    """On one server after the other; no acknowledged run is lost."""
    old = password(lab)
    with lab.logging(CLIENT) as numbers:
        time.sleep(10)
        said = lab.play("rotate.yml", rotate="database_password")
    logged, whole = numbers
    assert (
        "PostgreSQL refuses the old password" in said
        and "down        one server after the other, " in said
    )
    assert logged == whole > 10
    new = password(lab)
    for server in SERVERS:
        assert accepts(lab, server, new) and not accepts(lab, server, old)
        lab.root(
            server, f"mlflow-ready; ! grep -q {old} /etc/mlflow/*; ! ls /etc/mlflow/rotation.env"
        )
    said = lab.play("scenario3.yml", "--skip-tags", "smoke")
    assert set(re.findall(r"changed=(\d+)", said)) == {"0"}


def test_where_one_server_does_not_start_all_have_the_old_one_again(lab: Lab) -> None:
    """The last one, when the first has the new one already and the database too."""
    held = [lab.root(host, "sha256sum /etc/mlflow/*") for host in SERVERS]
    drop_in, flag = "/etc/systemd/system/mlflow.service.d", "/var/lib/mlflow/broken"
    lab.root(SERVERS[-1], f"mkdir -p {drop_in}; runuser -u mlflow touch {flag}; "
             f"printf '[Service]\\nExecStartPre=sh -c \"! rm {flag}\"\\n' > {drop_in}/break.conf; "
             "systemctl daemon-reload")  # fmt: skip
    try:
        said = lab.play("rotate.yml", code=2, rotate="database_password")
    finally:
        lab.root(SERVERS[-1], f"rm {drop_in}/break.conf; systemctl daemon-reload")
    assert f"On {SERVERS[-1]}: With the new secrets it does not serve" in " ".join(said.split())
    assert "Every server has its old secrets and serves." in said
    assert [lab.root(host, "sha256sum /etc/mlflow/*") for host in SERVERS] == held
    for server in SERVERS:
        assert accepts(lab, server, password(lab))
        lab.root(server, "mlflow-ready")


def test_a_database_of_the_team_s_own(lab: Lab, tmp_path: Path) -> None:
    """The vault's new password is the new one; nobody needs to be its administrator."""
    old, new = password(lab), "of-the-vault: 50% 'quoted'"
    groups = json.loads(lab.inventory.read_text())
    for host in groups.pop("mlflow_database")["hosts"]:
        groups["scenario3"]["hosts"].pop(host)
    (tmp_path / "hosts.yml").write_text(json.dumps(groups))
    own: dict[str, Any] = {
        "inventory": tmp_path / "hosts.yml",
        "rotate": "database_password",
        "mlflow_server_database_host": DATABASE,
        "mlflow_server_database_ca": "/etc/ssl/mlflow/ca.pem",
    }
    said = lab.play("rotate.yml", code=2, mlflow_server_database_password=old, **own)
    assert "change it there first" in " ".join(said.split())
    lab.play("rotate.yml", mlflow_server_database_password=new, **own)
    assert not accepts(lab, SERVERS[0], old)
    lab.root(SERVERS[1], "mlflow-ready")
    # As it was: a password that the database's host has made, and keeps.
    lab.play("rotate.yml", rotate="database_password")
    assert accepts(lab, SERVERS[0], password(lab))
