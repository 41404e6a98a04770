"""The inventories of scenario 3: what they come to on a server, and what is refused in them."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent

# What the look at a server's host sees, and what a vault would hold.
HOST = {"cores": 4, "memory_mb": 8000, "names": ["host"], "addresses": ["192.0.2.20"], "amiss": []}
VAULT = {
    "vault_mlflow_users": {"ada": "a-password-of-ada", "grace": "a-password-of-grace"},
    "vault_mlflow_database_password": "p@ss:/?#%",
}


def settings(inventory: str, folder: Path, **variables: Any) -> dict[str, dict[str, str]]:
    """Return the server's environment for each tracking server of a shipped inventory."""
    play = {
        "hosts": "mlflow_servers",
        "connection": "local",
        "gather_facts": False,
        "vars_files": [f"{ROOT}/playbooks/vars/scenario3.yml"],
        "pre_tasks": [{"import_tasks": f"{ROOT}/playbooks/tasks/scenario3_places.yml"}],
        "roles": [{"role": "mlflow_server", "when": False}],  # for its variables alone
        "post_tasks": [{
            "ansible.builtin.template": {
                "src": f"{ROOT}/roles/mlflow_server/templates/server.env.j2",
                "dest": f"{folder}/{{{{ inventory_hostname }}}}.env",
                "mode": "0600",
            }
        }],
    }  # fmt: skip
    # As in the repository: playbooks beside roles.
    (folder / "playbooks").mkdir()
    (folder / "playbooks/vars").symlink_to(ROOT / "playbooks/vars")
    (folder / "roles").symlink_to(ROOT / "roles")
    playbook = folder / "playbooks/playbook.yml"
    playbook.write_text(yaml.safe_dump([play], sort_keys=False))
    known = {
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "__mlflow_server_found": HOST,
        "seaweedfs_credentials": {"access_key": "AK", "secret_key": "SK"},
        "postgresql_credentials": {"password": "made there"},
    }
    done = subprocess.run(
        ["ansible-playbook", "-i", f"inventories/{inventory}/hosts.yml", playbook,
         "-e", json.dumps({**VAULT, **known, **variables})],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return {
        path.stem: {
            name: value.strip('"')
            for name, value in (
                line.split("=", 1)
                for line in path.read_text().splitlines()
                if line and line[0] != "#"
            )
        }
        for path in folder.glob("*.env")
    }


def test_on_one_host(tmp_path: Path) -> None:
    """No password to the database, nothing beyond the host, one public name."""
    [(name, env)] = settings("scenario3", tmp_path).items()
    assert name == "mlflow.example.com"
    uri = "postgresql+psycopg://mlflow@/mlflow?host=/var/run/postgresql&port=5432"
    assert env["MLFLOW_BACKEND_STORE_URI"] == uri
    assert env["MLFLOW_ARTIFACTS_DESTINATION"] == "s3://mlflow/artifacts"
    assert env["MLFLOW_S3_ENDPOINT_URL"] == "http://127.0.0.1:8333"
    assert (env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"]) == ("AK", "SK")
    assert env["MLFLOW_LISTEN_SOCKET"] == "/run/mlflow/mlflow.sock"
    assert "mlflow.example.com" in env["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")
    assert "https://mlflow.example.com" in env["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"].split(",")


def test_spread_over_several(tmp_path: Path) -> None:
    """The servers share everything, and reach it by name over TLS."""
    found = settings("scenario3_split", tmp_path)
    assert set(found) == {"server1.example.com", "server2.example.com"}
    one, two = found.values()
    own = {
        "MLFLOW_SERVER_ALLOWED_HOSTS",
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS",
        "MLFLOW_LISTEN_TLS_NAME",
    }
    assert {name: one[name] for name in {*one} - own} == {name: two[name] for name in {*two} - own}
    uri = "mlflow:made%20there@db.example.com:5432/mlflow?sslmode=verify-full&sslrootcert="
    assert uri + "/etc/ssl/mlflow/ca.pem" in one["MLFLOW_BACKEND_STORE_URI"]
    assert one["MLFLOW_S3_ENDPOINT_URL"] == "https://s3.example.com:8333"
    assert one["AWS_CA_BUNDLE"] == "/etc/ssl/mlflow/ca.pem"
    assert "MLFLOW_LISTEN_SOCKET" not in one


def test_on_aws(tmp_path: Path) -> None:
    """RDS with its CA and a password of any characters; S3 with the instance's role."""
    [env] = settings("scenario3_aws", tmp_path).values()
    place = "@mlflow.abcdefghijkl.eu-central-1.rds.amazonaws.com:5432/mlflow"
    assert f"mlflow:p%40ss%3A%2F%3F%23%25{place}" in env["MLFLOW_BACKEND_STORE_URI"]
    assert "sslmode=verify-full&sslrootcert=/usr/local/" in env["MLFLOW_BACKEND_STORE_URI"]
    assert env["MLFLOW_ARTIFACTS_DESTINATION"] == "s3://example-mlflow/artifacts"
    assert env["AWS_DEFAULT_REGION"] == "eu-central-1"
    assert env["MLFLOW_S3_EXPECTED_BUCKET_OWNER"] == "123456789012"
    extra = env["MLFLOW_S3_UPLOAD_EXTRA_ARGS"].replace('\\"', '"')
    assert json.loads(extra) == {"ServerSideEncryption": "aws:kms"}
    absent = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "MLFLOW_S3_ENDPOINT_URL"}
    assert not absent & set(env)


# name: (inventory's groups without hosts or with others, variables, words of the one error)
EMPTY: dict[str, Any] = {}
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "a vault that nobody changed": (
        EMPTY,
        {"vault_mlflow_users": None},
        ["vault.yml", "change-me"],
    ),
    "no server": ({"mlflow_servers": []}, EMPTY, ["mlflow_servers"]),
    "no gateway": ({"mlflow_gateway": []}, EMPTY, ["mlflow_gateway", "one host"]),
    "two databases": ({"mlflow_database": ["a", "b"]}, EMPTY, ["mlflow_database"]),
    "a database that is nowhere": (
        {"mlflow_database": []},
        EMPTY,
        ["mlflow_database", "mlflow_server_database_host"],
    ),
    "an access that is none": (
        EMPTY,
        {"mlflow_artifact_access": "direct"},
        ["mlflow_artifact_access", "proxied", "presigned"],
    ),
    "a certificate without its key": (
        EMPTY,
        {"mlflow_tls_certificate": "PEM"},
        ["mlflow_tls_certificate", "mlflow_tls_key"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_inventories_are_refused(case: str, tmp_path: Path) -> None:
    """One error, before any host is reached: these have no address at all."""
    groups, variables, words = REFUSED[case]
    names = ["mlflow_database", "mlflow_store", "mlflow_servers", "mlflow_gateway"]
    children = {
        name: {"hosts": dict.fromkeys(groups.get(name, ["mlflow.example.com"]))}
        for name in [*names, "mlflow_clients"]
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"scenario3": {"children": children}}))
    (tmp_path / "group_vars").symlink_to(ROOT / "inventories/scenario3/group_vars")
    given = {name: value for name, value in {**VAULT, **variables}.items() if value is not None}
    done = subprocess.run(
        ["ansible-playbook", "-i", tmp_path / "hosts.yml", "playbooks/scenario3.yml",
         "-e", json.dumps(given)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stdout
    said = " ".join(done.stdout.split())
    for word in [*words, "Nothing was changed"]:
        assert word in said
    assert said.count("fatal:") == 1
    assert "UNREACHABLE" not in said
