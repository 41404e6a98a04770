"""Secrets are changed while the service goes on, and no failure leaves half of a pair.

What a team would have changed in its vault is a variable here. In the end all is as it was.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hosts import Lab

SERVER, CLIENT = "mlflow.example.com", "login1.example.com"
ADMIN, ADA = "another-password-of-the-administrator", 'another: 50% "quoted" password of ada\'s'
CREDENTIAL = "sk-canary-of-a-stored-credential"

LOG = """
import json, mlflow
mlflow.set_experiment("rotation")
with mlflow.start_run() as run:
    mlflow.log_metric("accuracy", 0.96)
    mlflow.log_text("of before", "artifact.txt")
print(json.dumps(run.info.run_id))
"""
READ = """
import json, sys, mlflow
run = mlflow.get_run(sys.argv[1])
text = mlflow.artifacts.load_text(run.info.artifact_uri + "/artifact.txt")
print(json.dumps([run.data.metrics["accuracy"], text]))
"""
# As MLflow itself reads it, when its AI gateway needs it.
DECRYPT = """
cd /etc/mlflow
systemd-run --quiet --pipe --wait --uid=mlflow --property=WorkingDirectory=/var/lib/mlflow \\
  --property=EnvironmentFile=$PWD/secrets.env --property=EnvironmentFile=$PWD/server.env \\
  /opt/mlflow/current/bin/python - <<'END_OF_PYTHON'
import os
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
store = SqlAlchemyStore(os.environ["MLFLOW_BACKEND_STORE_URI"], "/nowhere")
[secret] = [one for one in store.list_secret_infos() if one.secret_name == "rotation"]
print(store._get_decrypted_secret(secret.secret_id)["api_key"])
END_OF_PYTHON
"""
# A key of the store, as a client would use it.
LIST = """
export AWS_ACCESS_KEY_ID={0} AWS_SECRET_ACCESS_KEY={1} AWS_DEFAULT_REGION=us-east-1
/opt/mlflow/current/bin/python - <<'END_OF_PYTHON'
import boto3, botocore.exceptions
try:
    store = boto3.client("s3", endpoint_url="http://127.0.0.1:8333")
    store.list_objects_v2(Bucket="mlflow", MaxKeys=1)
    print("accepted")
except botocore.exceptions.ClientError as error:
    print(error.response["Error"]["Code"])
END_OF_PYTHON
"""
# The first attempt to start fails.
BREAK = """
mkdir -p /etc/systemd/system/mlflow.service.d
cd /etc/systemd/system/mlflow.service.d
printf '[Service]\\nExecStartPre=/bin/sh -c "! rm /var/lib/mlflow/broken"\\n' > break.conf
runuser -u mlflow touch /var/lib/mlflow/broken
systemctl daemon-reload
"""
MEND = "rm /etc/systemd/system/mlflow.service.d/break.conf; systemctl daemon-reload"
HELD = "cd /etc; sha256sum mlflow/* seaweedfs/s3.json ssl/mlflow/* ssl/mlflow-ca/*.*"


CURL = (
    "curl -sSf --unix-socket /run/mlflow/mlflow.sock -u admin:$(cat /etc/mlflow/admin_password) "
    "--json '{}' http://localhost/api/3.0/mlflow/gateway/secrets/{}"
)


@pytest.fixture(scope="module")
def run_id(lab: Lab) -> Iterator[str]:
    """A run of Ada's, and a credential that the administrator stored, of before."""
    stored = {"secret_name": "rotation", "secret_value": {"api_key": CREDENTIAL}}
    asked = json.dumps({**stored, "provider": "openai"})
    said = json.loads(lab.root(SERVER, CURL.format(asked, "create")))
    yield str(lab.python(CLIENT, "ada", LOG))
    asked = json.dumps({"secret_id": said["secret"]["secret_id"]})
    lab.root(SERVER, CURL.format(asked, "delete -X DELETE"))


def login(lab: Lab, user: str, password: str) -> str:
    """Return the status with which somebody is let in, or not."""
    config = 'user = "{}:{}"'.format(user, password.replace('"', '\\"'))
    return lab.root(
        SERVER,
        "curl -s -o /dev/null -w '%{http_code}' --cacert /etc/ssl/mlflow/ca.pem -K - "
        "'https://mlflow.example.com/api/2.0/mlflow/experiments/get?experiment_id=0' "
        f"<<'END_OF_CONFIG'\n{config}\nEND_OF_CONFIG",
    ).strip()


def is_all_there(lab: Lab, run_id: str) -> None:
    """See that Ada, with what her login has, and MLflow itself read what is of before."""
    assert lab.python(CLIENT, "ada", READ, run_id) == [0.96, "of before"]
    assert lab.root(SERVER, DECRYPT).strip() == CREDENTIAL


def store_key(lab: Lab) -> list[str]:
    """Return the key of the store that the server has, and its secret."""
    lines = lab.root(
        SERVER, "grep -E '^AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY)=' /etc/mlflow/server.env"
    )
    return [line.split("=", 1)[1].strip('"') for line in lines.splitlines()]


def test_a_service_that_does_not_start_has_its_old_secrets_again(lab: Lab, run_id: str) -> None:
    held = lab.root(SERVER, HELD)
    lab.root(SERVER, BREAK)
    try:
        said = lab.play("rotate.yml", code=2, rotate="secret_keys,admin_password,s3_key",
                        mlflow_server_auth_admin_password=ADMIN)  # fmt: skip
    finally:
        lab.root(SERVER, MEND)
    assert "Every server has its old secrets and serves." in said
    assert lab.root(SERVER, HELD) == held
    assert login(lab, "admin", ADMIN) == "401"
    lab.root(SERVER, "mlflow-ready")
    is_all_there(lab, run_id)


def test_a_store_that_takes_no_new_key_has_its_old_one_again(lab: Lab) -> None:
    """It is asked before any server is touched."""
    held = lab.root(SERVER, f"{HELD}; systemctl show --property InvocationID mlflow")
    drop_in = "/etc/systemd/system/seaweedfs.service.d"
    lab.root(SERVER, f"mkdir -p {drop_in}; printf '[Service]\\nExecReload=\\nExecReload=true\\n' "
                     f"> {drop_in}/deaf.conf; systemctl daemon-reload")  # fmt: skip
    try:
        said = lab.play("rotate.yml", code=2, rotate="s3_key")
    finally:
        lab.root(SERVER, f"rm {drop_in}/deaf.conf; systemctl daemon-reload")
    assert "It refuses 2 of the 4 keys" in said
    assert lab.root(SERVER, f"{HELD}; systemctl show --property InvocationID mlflow") == held


# For the key and the use that the certificate has, good for three days more.
EXPIRE = """
cd /etc/ssl/mlflow
printf 'subjectAltName=DNS:mlflow.example.com\\nextendedKeyUsage=serverAuth\\n' > /run/extensions
openssl req -new -key mlflow.key -subj /CN=mlflow.example.com | openssl x509 -req -days 3 \\
  -CA ../mlflow-ca/ca.pem -CAkey ../mlflow-ca/ca.key -extfile /run/extensions -out /run/fresh
cat /run/fresh > mlflow.pem; rm /run/fresh /run/extensions; systemctl reload nginx
"""
SERVED = (
    "echo | openssl s_client -connect mlflow.example.com:443 -servername mlflow.example.com "
    "-CAfile /etc/ssl/mlflow/ca.pem -verify_return_error 2> /dev/null | openssl x509 -noout {}"
)


def test_the_ca_s_own_host_renews_by_itself(lab: Lab) -> None:
    """What is near its end, by a timer; nginx takes it, and the next run finds it in order."""
    lab.root(SERVER, EXPIRE)
    assert "will expire" in lab.root(SERVER, f"{SERVED.format('-checkend 864000')} || true")
    lab.root(SERVER, "systemctl start mlflow-certificates; sleep 0.5")
    month = 86400 * 30
    assert "will not expire" in lab.root(SERVER, SERVED.format(f"-checkend {12 * month}"))
    lab.root(SERVER, "systemctl is-enabled --quiet mlflow-certificates.timer")
    said = lab.play("renew.yml")
    assert "renewed     none" in said and set(re.findall(r"changed=(\d+)", said)) == {"0"}


def test_all_are_rotated(lab: Lab, run_id: str) -> None:
    vault = lab.variables
    old_key = store_key(lab)
    old_keys = lab.root(
        SERVER, "grep -v '^#' /etc/mlflow/secrets.env | cut -d= -f2; cat /etc/ssl/mlflow/mlflow.key"
    )
    lab.root(SERVER, "cp /etc/ssl/mlflow/mlflow.pem /root/old.pem")
    changed: dict[str, Any] = {
        "mlflow_server_auth_admin_password": ADMIN,
        "vault_mlflow_users": {**vault["vault_mlflow_users"], "ada": ADA},
    }
    said = lab.play("rotate.yml", rotate="all,ca", rotate_users="ada", **changed)
    for words in (
        "left database_password: there is none",
        "the new keys open 1 of 1 stored credentials, the old none",
        "MLflow refuses the administrator's old password",
        "the store refuses the old keys",
        "the old CA is refused",
    ):
        assert words in " ".join(said.split())

    # What was, is not.
    assert login(lab, "ada", vault["vault_mlflow_users"]["ada"]) == "401"
    assert login(lab, "admin", vault["mlflow_server_auth_admin_password"]) == "401"
    assert lab.root(SERVER, LIST.format(*old_key)).strip() == "InvalidAccessKeyId"
    kept = lab.root(SERVER, "cat /etc/mlflow/* /etc/ssl/mlflow/*")
    # What serves was started while both were at hand.
    read = "tr '\\0' ' ' < /proc/$each/environ"
    kept += lab.root(SERVER, f"for each in $(pgrep -u mlflow); do {read}; done")
    for word in [line for line in old_keys.splitlines() if len(line) > 20 and "--" not in line]:
        assert word not in kept
    verify = "cd /etc/ssl/mlflow; openssl verify -CAfile ca.pem {} 2>&1 || true"
    assert "verification failed" in lab.root(SERVER, verify.format("/root/old.pem"))
    lab.root(SERVER, "rm /root/old.pem")

    # What is, works: for Ada with the files that her login had, and got.
    assert lab.root(SERVER, verify.format("mlflow.pem")).strip() == "mlflow.pem: OK"
    assert login(lab, "ada", ADA) == login(lab, "admin", ADMIN) == "200"
    assert lab.root(SERVER, LIST.format(*store_key(lab))).strip() == "accepted"
    is_all_there(lab, run_id)
    said = lab.play("scenario3.yml", "--skip-tags", "smoke", **changed)
    assert set(re.findall(r"changed=(\d+)", said)) == {"0"}


def test_a_rotation_that_was_cut_off_goes_on(lab: Lab, run_id: str) -> None:
    """In the middle of the restart. By itself the service is up again; the next run finishes."""
    vault = lab.variables
    given = {"admin_password": vault["mlflow_server_auth_admin_password"]}
    asked = {"secrets": ["secret_keys", "admin_password"], "given": given}
    step = "/opt/mlflow/current/bin/python -Es /usr/local/lib/mlflow/current rotation {}"
    lab.root(
        SERVER,
        f"{step.format('begin')} > /dev/null <<'END_OF_JSON'\n{json.dumps(asked)}\nEND_OF_JSON\n"
        f"{step.format('change')} &\n"
        "while systemctl is-active --quiet mlflow; do sleep 0.1; done\n"
        "kill -9 $!; wait $! || true\n"
        "until systemctl is-active --quiet mlflow; do sleep 1; done; mlflow-ready",
    )
    is_all_there(lab, run_id)
    said = lab.play("rotate.yml", rotate="admin_password,user_passwords", rotate_users="ada")
    rotated = re.search(r"Rotated on \S+: (.+)", said)
    assert rotated and {*rotated[1].split(", ")} == {*asked["secrets"], "user_passwords"}
    assert login(lab, "admin", ADMIN) == login(lab, "ada", ADA) == "401"
    is_all_there(lab, run_id)
