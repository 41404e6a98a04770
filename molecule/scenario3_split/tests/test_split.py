"""Several hosts as one installation: what each shows, and what happens when one dies."""

import json
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from exposure import exposed, surprises
from hosts import Lab

GATEWAY, CLIENT = "mlflow.example.com", "login.example.com"
SERVERS = ["server1.example.com", "server2.example.com"]


def test_only_these_ports_answer(lab: Lab) -> None:
    hosts = [host for host in lab.hosts if host != CLIENT]
    assert lab.open_ports(*hosts, seen_from=CLIENT) == {
        GATEWAY: [22, 80, 443],
        "db.example.com": [22, 5432],
        "s3.example.com": [22, 8333],
        "server1.example.com": [22, 5000],
        "server2.example.com": [22, 5000],
    }


def test_units_are_as_closed_as_the_table_says(lab: Lab) -> None:
    """And nothing else listens: a new socket fails until it is in docs/security.yml."""

    def root(host: str) -> Callable[[str], str]:
        return lambda script: lab.root(host, script)

    hosts = [root(host) for host in lab.hosts if host != CLIENT]
    assert surprises("scenario3_split", *hosts) == []
    assert exposed(root("s3.example.com"), "seaweedfs.service", "seaweedfs-s3.service") == {}
    for server in SERVERS:
        assert exposed(root(server), "mlflow.service") == {}


CONNECT = """
import json, psycopg
try:
    psycopg.connect("host=db.example.com user=mlflow dbname=mlflow")
    said = "connected"
except psycopg.Error as error:
    said = str(error)
print(json.dumps(said))
"""


def test_the_inner_ports_answer_nobody_but_the_installation(lab: Lab) -> None:
    """Without a certificate of ours no server speaks, and no database to a host that is none."""
    for server in SERVERS:
        ask = f"curl -sk --max-time 20 https://{server}:5000/version && echo ' ANSWERED' || true"
        assert "ANSWERED" not in lab.ssh(CLIENT, ask, "grace")
    assert "kein pg_hba.conf-Eintrag" in lab.python(CLIENT, "grace", CONNECT)


# As the gateway asks a tracking server, with one of this host's pairs.
PRESENT = """
cd /etc/ssl/mlflow
curl -s --cert {0}.pem --key {0}.key --cacert ca.pem -o /dev/null -w '%{{http_code}}' \\
  --connect-to mlflow-server:5000:{1}:5000 https://mlflow-server:5000/version || true
"""


def test_a_key_passes_for_no_other(lab: Lab) -> None:
    """A tracking server wants the gateway's; a database's, and a server's own, are none."""
    for server in SERVERS:
        assert lab.root(GATEWAY, PRESENT.format("mlflow-gateway", server)) == "401"
        assert lab.root("db.example.com", PRESENT.format("postgresql", server)) == "000"
    assert lab.root(SERVERS[0], PRESENT.format("mlflow-tracking", SERVERS[1])) == "000"
    assert lab.root(SERVERS[0], PRESENT.format("mlflow-tracking-client", SERVERS[1])) == "401"
    # Nor does a client's pass for a server's, or anybody's for a tracking server's.
    see = "cd /etc/ssl/mlflow; openssl verify -CAfile ca.pem {} || true"
    other = see.format("-purpose sslserver mlflow-gateway.pem 2>&1")
    assert "unsuitable certificate purpose" in lab.root(GATEWAY, other)
    named = see.format("-verify_hostname mlflow-server postgresql.pem 2>&1")
    assert "hostname mismatch" in lab.root("db.example.com", named)


LOG = """
import json, sys, time
import mlflow
mlflow.set_experiment("while-a-server-dies")
done, cut, until = [], 0, time.monotonic() + float(sys.argv[1])
while time.monotonic() < until:
    try:
        with mlflow.start_run() as run:
            mlflow.log_metrics({f"m{i}": i for i in range(10)})
            mlflow.log_params({f"p{i}": i for i in range(5)})
    except mlflow.exceptions.MlflowException as error:
        if "IncompleteRead" not in str(error):
            raise
        mlflow.end_run()
        cut += 1
    else:
        done.append(run.info.run_id)
print(json.dumps([done, cut]))
"""

READ = """
import json, sys
import mlflow
client = mlflow.MlflowClient()
whole = []
for run_id in json.load(open("runs.json")):
    run = client.get_run(run_id)
    if run.info.status == "FINISHED" and len(run.data.metrics) == 10 and len(run.data.params) == 5:
        whole.append(run_id)
print(json.dumps(whole))
"""


@pytest.mark.parametrize("victim", SERVERS)
def test_a_server_dies_and_no_acknowledged_run_is_lost(lab: Lab, victim: str) -> None:
    """A reply that a client has in part may be cut off: nobody can ask for its rest."""
    with ThreadPoolExecutor() as pool:
        logging = pool.submit(lab.python, CLIENT, "ada", LOG, "20")
        time.sleep(10)
        kill = "systemctl kill --signal=KILL --kill-whom=all mlflow; systemctl stop mlflow"
        lab.root(victim, kill)
    try:
        done, cut = logging.result()
        assert len(done) > 10 and cut <= 1, (done, cut)
        bring = f"cat > runs.json <<'END_OF_RUNS'\n{json.dumps(done)}\nEND_OF_RUNS"
        assert lab.python(CLIENT, "ada", READ, before=bring) == done
    finally:
        lab.root(victim, "systemctl reset-failed mlflow; systemctl start mlflow")


ASK = "import mlflow\nfor _ in range(40): mlflow.search_experiments()\nprint(0)"

# As nginx asks a server: by our certificate, and the name that all of theirs carry.
AS_NGINX = """
cd /etc/ssl/mlflow
curl -s --cert mlflow-gateway.pem --key mlflow-gateway.key --cacert ca.pem \\
  --connect-to mlflow-server:5000:{host}:5000 --header 'Host: mlflow.example.com' \\
  -o /dev/null -w '%{{http_code}}' -K - \\
  https://mlflow-server:5000/api/2.0/mlflow/experiments/get?experiment_id=0 <<'END'
user = "ada:{password}"
END
"""


def test_both_servers_work(lab: Lab) -> None:
    """Requests go to either, and either believes the same passwords and signs the same sessions."""
    keys = {lab.root(host, "sha256sum < /etc/mlflow/secrets.env") for host in SERVERS}
    assert len(keys) == 1
    ada = lab.variables["vault_mlflow_users"]["ada"]
    for password, code in ((ada, "200"), ("a-wrong-password", "401")):
        for host in SERVERS:
            ask = AS_NGINX.format(host=host, password=password)
            assert lab.root(GATEWAY, ask).strip() == code, host

    # nginx keeps a connection that it used for 4 seconds: while a client asks, it has some to each.
    reached: set[str] = set()
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(lab.python, CLIENT, "ada", ASK)
        while not asking.done():
            seen = lab.root(GATEWAY, "ss -Htn state established dport = 5000")
            reached |= {host for host in SERVERS if f"[{lab.address(host)}]:5000" in seen}
        asking.result()
    assert reached == set(SERVERS)


DIRECT = """
import json, os
from urllib.parse import urlsplit
import mlflow, requests

hosts, send = set(), requests.Session.send
def noted(self, request, **settings):
    hosts.add(f"{request.method} {urlsplit(request.url).netloc}")
    return send(self, request, **settings)
requests.Session.send = noted

open("large.bin", "wb").write(os.urandom(520 << 20))  # larger files are sent in parts
mlflow.set_experiment("presigned")
with mlflow.start_run() as run:
    try:
        mlflow.log_artifact("large.bin")
    except mlflow.exceptions.MlflowException as error:
        # A young SeaweedFS now and then hangs up on a part, and MLflow's client asks but once.
        if "RemoteDisconnected" not in str(error):
            raise
        mlflow.log_artifact("large.bin")
got = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="large.bin")
same = open(got, "rb").read() == open("large.bin", "rb").read()
os.unlink("large.bin"); os.unlink(got)
print(json.dumps({"same": same, "hosts": sorted(host for host in hosts if "s3" in host)}))
"""


def test_artifacts_go_straight_to_the_store(lab: Lab) -> None:
    """Both ways by presigned addresses, with nothing but what the playbook gave the client."""
    store = "s3.example.com:8333"
    seen = lab.python(CLIENT, "ada", DIRECT)
    assert seen == {"same": True, "hosts": [f"GET {store}", f"PUT {store}"]}


WRITE = """
import json, sys
import mlflow
number = mlflow.set_experiment("brought-back").experiment_id
found = mlflow.MlflowClient().search_runs([number])
with mlflow.start_run(run_id=found[0].info.run_id if found else None):
    mlflow.log_text(sys.argv[1], "a.txt")
    mlflow.log_metric("length", len(sys.argv[1]))
print(json.dumps(0))
"""

THERE = """
import json
import mlflow
number = mlflow.set_experiment("brought-back").experiment_id
[run] = mlflow.MlflowClient().search_runs([number])
text = mlflow.artifacts.load_text(run.info.artifact_uri + "/a.txt")
print(json.dumps([text, run.data.metrics["length"]]))
"""

ENDED = """
cat /var/lib/mlflow-switch/state.json; echo
systemctl show --property ExecMainStartTimestamp --timestamp=unix --value mlflow | tr -d @
"""


def test_a_restore_of_two_servers(lab: Lab) -> None:
    """What it replaces, database and S3, comes back; and who follows serves when that is over."""
    backup: dict[str, Any] = {
        "mlflow_backup_target": "/srv/backups",
        "mlflow_backup_move_confirm": SERVERS[0],  # from that of another test
        "mlflow_backup_on_calendar": "",
    }
    lab.python(CLIENT, "ada", WRITE, "old")
    lab.play("backup.yml", **backup)
    lab.python(CLIENT, "ada", WRITE, "newer")
    asked: dict[str, Any] = {**backup, "mlflow_restore_confirm": SERVERS[0]}
    wrong = ["--settings", "/nowhere"]
    said = " ".join(lab.play("restore.yml", code=2, **asked, smoke_arguments=wrong).split())
    assert "failed while the new version was on trial" in said
    assert "The server that leads has put it back" in said
    assert lab.python(CLIENT, "ada", THERE) == ["newer", 5]
    lab.play("restore.yml", **asked)
    assert lab.python(CLIENT, "ada", THERE) == ["old", 3]
    leader, follower = (lab.root(host, ENDED).split("\n") for host in SERVERS)
    assert json.loads(leader[0])["phase"] == json.loads(follower[0])["phase"] == "confirmed"
    assert float(follower[1]) >= int(json.loads(leader[0])["ended_at"])
    for host in SERVERS:
        lab.root(host, "mlflow-ready")


@pytest.fixture
def given(lab: Lab, tmp_path: Path) -> dict[str, Any]:
    """The same database and bucket as a team's own: no host for them, but variables."""
    groups = json.loads(lab.inventory.read_text())
    for group in ("mlflow_database", "mlflow_store"):
        for host in groups.pop(group)["hosts"]:
            groups["scenario3"]["hosts"].pop(host)
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(json.dumps(groups))
    lines = lab.root(SERVERS[0], "cat /etc/mlflow/server.env").splitlines()
    settings = dict(line.split("=", 1) for line in lines if line and line[0] != "#")
    return {
        "inventory": inventory,
        "mlflow_server_database_host": "db.example.com",
        "mlflow_server_database_password": lab.root(
            "db.example.com", "cat /etc/postgresql/mlflow-password"
        ).strip(),
        "mlflow_server_database_ca": "/etc/ssl/mlflow/ca.pem",
        "mlflow_server_s3_endpoint_url": "https://s3.example.com:8333",
        "mlflow_server_s3_region": "us-east-1",
        "mlflow_server_s3_ca_bundle": "/etc/ssl/mlflow/ca.pem",
        "mlflow_server_s3_access_key": settings["AWS_ACCESS_KEY_ID"].strip('"'),
        "mlflow_server_s3_secret_key": settings["AWS_SECRET_ACCESS_KEY"].strip('"'),
        "s3_bucket_create": False,
    }


def test_a_database_and_a_bucket_of_the_team_s_own(lab: Lab, given: dict[str, Any]) -> None:
    """The roles are skipped, the variables used: they say what the roles said, so nothing moves."""
    said = lab.play("scenario3.yml", **given)
    assert set(re.findall(r"changed=(\d+)", said)) == {"0"}
    assert "checks in" in said  # the smoke


@pytest.mark.parametrize(
    "variable, value, words",
    [
        ("mlflow_server_database_password", "wrong", ["mlflow_server_database_password"]),
        ("mlflow_server_database_host", "nowhere.example.com", ["mlflow_server_database_host"]),
        ("mlflow_server_database_ca", "system", ["mlflow_server_database_ca"]),
        ("mlflow_server_s3_secret_key", "wrong", ["mlflow_server_s3_secret_key"]),
        ("mlflow_server_s3_ca_bundle", "", ["mlflow_server_s3_ca_bundle"]),
        ("mlflow_bucket", "somebody-elses", ["mlflow_bucket", "somebody-elses"]),
    ],
)
def test_what_the_team_gave_does_not_work(
    lab: Lab, given: dict[str, Any], variable: str, value: str, words: list[str]
) -> None:
    """The first attempt with these very credentials is answered in a sentence; nothing moves."""
    state = "systemctl show --property InvocationID mlflow; sha256sum /etc/mlflow/*"
    before = [lab.root(host, state) for host in SERVERS]
    wrong = {**given, variable: value, "mlflow_server_move_confirm": SERVERS[0]}
    said = lab.play("scenario3.yml", "--limit", "mlflow_servers", code=2, **wrong)
    error = " ".join(said.rpartition("fatal:")[2].split())
    for word in words:
        assert word in error
    assert [lab.root(host, state) for host in SERVERS] == before
