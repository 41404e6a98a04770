"""Backups of SQLite and a directory of artifacts: taken under load, damaged, removed, drilled.

On one of the hosts; scenario 3's are of the other Debian, with PostgreSQL and S3.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from exposure import exposed

Run = Callable[..., str]
HOSTS = "debian13-server"
TARGET = "/var/backups/mlflow"
PYTHON = "/opt/mlflow/current/bin/python"
AS_ADA = f"MLFLOW_TRACKING_URI=http://localhost:5000 {PYTHON}"

TRAIN = """
import mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
X, y = load_iris(return_X_y=True)
mlflow.set_experiment("to-be-backed-up")
with mlflow.start_run():
    mlflow.sklearn.log_model(
        LogisticRegression(max_iter=200).fit(X, y), name="models", input_example=X[:3],
        registered_model_name="to-be-backed-up", pip_requirements=[],
    )
"""

# What a run tells the database, it has told the artifacts before.
WRITE = """
import hashlib, pathlib, time, mlflow
client = mlflow.MlflowClient()
mlflow.set_experiment("under-load")
name = client.create_registered_model(f"under-load-{time.time_ns()}").name
number = 0
while not pathlib.Path("/tmp/stop").exists():
    number += 1
    with mlflow.start_run() as run:
        mlflow.log_text("begun", "notes.txt")
        text = run.info.run_id * 500
        mlflow.log_text(text, "model/data.txt")
        mlflow.log_param("sha256", hashlib.sha256(text.encode()).hexdigest())
        if number % 3 == 0:
            client.create_model_version(name, f"{run.info.artifact_uri}/model", run.info.run_id)
        mlflow.log_text("ended", "notes.txt")
print(number)
"""

# What the saved database refers to, and what is there.
LOOK = """
import hashlib, json, pathlib, sqlite3, sys
place = pathlib.Path(sys.argv[1])
database = sqlite3.connect(place / "tracking.db")
manifest = json.loads((place / "manifest.json").read_text())
artifacts = place / "artifacts"
wrong = [
    f"{table}: {count}"
    for table, count in manifest["databases"]["tracking"]["counts"].items()
    if database.execute(f"SELECT count(*) FROM {table}").fetchone() != (count,)
]
promised = database.execute("SELECT r.experiment_id, r.run_uuid, p.value FROM runs r "
                            "JOIN params p USING (run_uuid) WHERE p.key = 'sha256'").fetchall()
for experiment, run, sha256 in promised:
    file = artifacts / str(experiment) / run / "artifacts/model/data.txt"
    if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != sha256:
        wrong.append(f"run {run}")
    elif not (file.parent.parent / "notes.txt").is_file():
        wrong.append(f"notes of run {run}")
versions = database.execute("SELECT storage_location, source FROM model_versions").fetchall()
for location, source in versions:
    if not (artifacts / (location or source).partition(":/")[2]).is_dir():
        wrong.append(f"model {source}")
known = {row[0] for row in database.execute("SELECT run_uuid FROM runs UNION "
                                            "SELECT model_id FROM logged_models")}
for path in [*artifacts.glob("*/[0-9a-f]*"), *artifacts.glob("*/models/*")]:
    if path.name not in known | {"models"}:
        wrong.append(f"{path} is newer than the database")
print(json.dumps({"wrong": wrong, "runs": len(promised), "versions": len(versions)}))
"""

# Directories so deep that no program can open them by their path.
DEEP = """
import os
for _ in range(30):
    os.mkdir("e" * 200)
    os.chdir("e" * 200)
""".replace('"', '\\"')

# What everything is put back to.
REMOVE = f"""
cd /etc/systemd/system; systemctl disable --quiet --now mlflow-backup*.timer
rm -rf {TARGET} /var/lib/mlflow-backup /etc/mlflow/backup.* /root/fetched* /root/look.py /tmp/stop
rm -f /etc/systemd/system/mlflow-backup* /etc/systemd/system/tell@.service /run/told
rm -f /usr/local/sbin/mlflow-backup
rm -rf /etc/canary /var/lib/mlflow/artifacts_local/0/trap
systemctl daemon-reload
systemctl reset-failed
userdel mlflow-drill
"""


@pytest.fixture(scope="module")
def root(ssh: Run) -> Run:
    """Run a shell script on the host as root, to its first failure."""
    return lambda script: ssh(f"sudo sh -eu <<'EOS'\n{script}\nEOS\n", user="ops")


@pytest.fixture(scope="module", autouse=True)
def backups(root: Run, ssh: Run, play: Run) -> Iterator[str]:
    """What the playbook said that set them up and took the first."""
    ssh(f"{AS_ADA} - <<'END'\n{TRAIN}\nEND")
    root(
        f"cat > /root/look.py <<'END'\n{LOOK}\nEND\n"
        "cat > /etc/systemd/system/tell@.service <<'END'\n"
        "[Service]\nType=oneshot\nExecStart=sh -c 'echo %i >> /run/told'\nEND"
    )
    yield play("backup.yml", user="ops", mlflow_backup_on_failure="tell@%n.service")
    root(REMOVE)


def fails(root: Run, command: str) -> str:
    """Run a command that must fail, and return all that it says."""
    said = root(f"{command} 2>&1 && echo IT DID NOT FAIL || true")
    assert "IT DID NOT FAIL" not in said
    return " ".join(said.split())


def listed(root: Run) -> list[dict[str, Any]]:
    """Return the sets there are."""
    found: list[dict[str, Any]] = json.loads(root("mlflow-backup list --json"))
    return found


def test_the_first_is_whole_and_the_next_copies_nothing_again(root: Run, backups: str) -> None:
    assert "Backed up:" in backups and "changed=" in backups
    root("systemctl start mlflow-backup")
    first, second = listed(root)[-2:]
    assert first["added"] > second["added"] == second["databases"]["tracking"]["bytes"]
    assert first["artifacts_count"] == second["artifacts_count"] > 5
    assert root(f"find {TARGET}/{second['set']} -type f -path '*/artifacts/*'") == ""
    assert root("mlflow-backup verify").count("is whole") >= 2  # else it fails
    status = json.loads(root("cat /var/lib/mlflow-backup/status.json"))
    assert status["set"] == second["set"] and not status["error"]
    assert status["last_success"] >= first["databases"]["tracking"]["moment"]


def test_units_are_as_closed_as_the_table_says(root: Run) -> None:
    units = ("", "-check", "-verify", "-drill", "-sandbox@restore")
    assert exposed(root, *(f"mlflow-backup{unit}.service" for unit in units)) == {}


def test_a_second_run_changes_nothing(play: Run) -> None:
    said = play("backup.yml", "--skip-tags", "create", user="ops",
                mlflow_backup_on_failure="tell@%n.service")  # fmt: skip
    assert "changed=0" in said


def test_under_load_a_state_is_saved_that_there_was(root: Run, ssh: Run) -> None:
    ssh(f"cat > write.py <<'END'\n{WRITE}\nEND\n{AS_ADA} write.py > written 2>&1 & sleep 12")
    seen = []
    try:
        for number in range(3):
            root(f"systemctl start mlflow-backup; mlflow-backup fetch newest /root/fetched{number}")
            look = f"{PYTHON} /root/look.py /root/fetched{number}; rm -rf /root/fetched{number}"
            seen.append(json.loads(root(look)))
    finally:
        root("touch /tmp/stop; while pgrep -f write.py > /dev/null; do sleep 0.2; done")
    assert [one["wrong"] for one in seen] == [[], [], []]
    assert 0 < seen[0]["runs"] < seen[1]["runs"] < seen[2]["runs"]
    assert seen[2]["versions"] > 1


def test_damage_is_named_and_refused(root: Run) -> None:
    newest = listed(root)[-1]["set"]
    file = root(f"find {TARGET} -name MLmodel | tail -1").strip()
    root(f"cp '{file}' /root/fetched-file; printf x | dd of='{file}' seek=9 bs=1 conv=notrunc")
    try:
        said = fails(root, "mlflow-backup verify")
        assert f"{newest} is damaged" in said
        assert f"{file.removeprefix(TARGET + '/')} is missing or damaged" in said
        said = fails(root, f"mlflow-backup fetch {newest} /root/fetched")
        assert "MLmodel" in said and "Nothing was fetched" in said and "--without 1" in said
        assert "What was brought waits in /root/fetched.unfinished for another try" in said
        assert root("ls -d /root/fetched*ed; rm -r /root/fetched.unfinished").split() == [
            "/root/fetched.unfinished"
        ]
        whole = listed(root)[-1]["artifacts_count"]
        found = json.loads(root(f"mlflow-backup fetch --without 1 {newest} /root/fetched"))
        assert found["artifacts_count"] == whole - 1
        count = root("find /root/fetched/artifacts -type f | wc -l; rm -r /root/fetched")
        assert int(count) == whole - 1
        fails(root, "systemctl start mlflow-backup-verify")
        root("sleep 1; grep mlflow-backup-verify /run/told; systemctl reset-failed")
        # Copied anew, and mended.
        root("systemctl start mlflow-backup; systemctl start mlflow-backup-verify")
        assert root(f"cmp '{file}' /root/fetched-file") == ""
    finally:
        root(f"cp /root/fetched-file '{file}'; rm /root/fetched-file; mlflow-backup verify")


def test_a_target_that_is_not_there_is_not_written_to(root: Run) -> None:
    root(f"mv {TARGET} {TARGET}.kept; mkdir -m 700 {TARGET}")
    try:
        fails(root, "systemctl start mlflow-backup")
        assert "not mounted" in root("journalctl --sync; journalctl -u mlflow-backup -n 5 -o cat")
        assert root(f"ls -A {TARGET}") == ""
    finally:
        root(f"rmdir {TARGET}; mv {TARGET}.kept {TARGET}; systemctl reset-failed")


def test_one_that_was_killed_is_none(root: Run) -> None:
    before = listed(root)
    new = "/var/lib/mlflow/artifacts_local/0/killed"
    root(f"runuser -u mlflow -- sh -c 'mkdir -p {new}; date > {new}/file'")
    begun = f"ls {TARGET}/*/artifacts/0/killed/file > /dev/null 2>&1"
    root(
        f"systemctl start --no-block mlflow-backup; until {begun}; do :; done; "
        "systemctl kill --signal=KILL mlflow-backup; sleep 1"
    )
    assert listed(root) == before
    assert "mlflow-backup.service" in root("cat /run/told")
    root("systemctl reset-failed mlflow-backup; systemctl start mlflow-backup")
    stamps = {one["set"] for one in listed(root)}
    assert set(root(f"ls {TARGET}").split()) == {*stamps, "mlflow-backup.target"}, (
        "what it left is gone"
    )
    root(f"rm -r {new}")


def test_old_sets_go_and_what_others_need_stays(root: Run) -> None:
    sets = [one["set"] for one in listed(root)]
    settings = "grep -v KEEP /etc/mlflow/backup.env; echo MLFLOW_BACKUP_KEEP_{}"
    keep = (
        "; ".join(settings.format(one) for one in ("DAYS=0",)) + "; echo MLFLOW_BACKUP_KEEP_SETS=1"
    )
    said = root(f"({keep}) | mlflow-backup --settings - prune")
    assert said.split(": ")[1].strip(".\n").split(", ") == sets[:-1]
    assert [one["set"] for one in listed(root)] == sets[-1:]
    assert sets[0] in root(f"ls {TARGET}"), "the first set's artifacts are the newest's too"
    assert root(f"ls {TARGET}/{sets[0]}").split() == ["artifacts"]
    root("mlflow-backup verify; mlflow-backup fetch newest /root/fetched; rm -r /root/fetched")


def test_the_alarm(root: Run) -> None:
    root("systemctl start mlflow-backup-check")
    root(
        "cd /var/lib/mlflow-backup; cp status.json status.kept; "
        'sed -i \'s/"last_success": [0-9]*/"last_success": 1700000000/\' status.json'
    )
    try:
        fails(root, "systemctl start mlflow-backup-check")
        said = root("journalctl -u mlflow-backup-check -n 20 --no-pager -o cat")
        assert "must not be older than 30 hours" in said
        assert "mlflow-backup-check.service" in root("sleep 1; cat /run/told")
    finally:
        root("cd /var/lib/mlflow-backup; mv status.kept status.json")


def test_what_the_service_links_to_is_not_backed_up(root: Run) -> None:
    """No link to nothing, pipe or name ends a backup. They stay, for the drill that follows."""
    trap = "/var/lib/mlflow/artifacts_local/0/trap"
    root(
        "mkdir -m 700 /etc/canary; echo of-root-alone > /etc/canary/file; runuser -u mlflow -- sh "
        f"-euc 'mkdir -p {trap}; cd {trap}; echo 1 > file; ln -s /etc/canary directory; "
        "ln -s /etc/canary/file link; ln -s nothing dangling; mkfifo pipe; "
        """echo 1 > "$(printf "line\\nbreak")"; echo 1 > "$(printf "not\\377utf8")"; """
        f'{PYTHON} -c "{DEEP}"\''
    )
    root("systemctl start mlflow-backup; mlflow-backup fetch newest /root/fetched")
    found = root("cd /root/fetched/artifacts/0/trap; find . ! -type d -printf '%P|'").split("|")
    assert sorted(found[:-1]) == ["file", "line\nbreak"]
    assert root(f"grep -rl of-root-alone {TARGET} /root/fetched || true; rm -r /root/fetched") == ""
    assert listed(root)[-1]["artifacts_left_out"] == 6
    said = root("journalctl --sync; journalctl -u mlflow-backup -n 9 --no-pager -o cat")
    for name in ("directory'", "link'", "dangling'", "pipe'", "not\ufffdutf8'", "eee"):
        assert f"'0/trap/{name}" in said
    assert "Left out: 6 links" in said

    # The directory as a whole, while it is looked for: another link of the service's.
    swap = "runuser -u mlflow -- sh -euc 'cd /var/lib/mlflow; {}'"
    root(swap.format("mv artifacts_local kept; ln -s /etc artifacts_local"))
    try:
        fails(root, "systemctl start mlflow-backup")
    finally:
        root(swap.format("rm artifacts_local; mv kept artifacts_local"))
    said = root("journalctl --sync; journalctl -u mlflow-backup -n 9 --no-pager -o cat")
    assert "artifacts_local in it is a link of user" in said
    root("systemctl reset-failed mlflow-backup")


def test_a_drill_passes_and_leaves_nothing(root: Run, play: Run) -> None:
    root("systemctl start mlflow-backup")
    said = " ".join(play("restore_drill.yml", user="ops").split())
    for words in ("passed", "serves the restored data", "model to-be-backed-up",
                  "the same files as the running service's; 3 predictions are equal"):  # fmt: skip
        assert words in said
    assert json.loads(root("cat /var/lib/mlflow-backup/drill.json"))["passed"]
    assert root("ls /var/lib/mlflow-backup").split() == [
        "damaged.json",
        "drill.json",
        "lock",
        "status.json",
    ]


def test_a_drill_notices_a_changed_model_and_a_killed_one_leaves_nothing(root: Run) -> None:
    file = "$(find /var/lib/mlflow/artifacts_local -name model.skops | xargs ls -t | head -1)"
    root(f'file={file}; echo "$file" > /root/fetched-name; cp -p "$file" /root/fetched-file; '
         'printf xyz >> "$file"')  # fmt: skip
    try:
        said = fails(root, "mlflow-backup drill")
        assert "model to-be-backed-up" in said and "differs from the running service's" in said
        assert "model.skops" in said
        root(
            "systemctl start --no-block mlflow-backup-drill; "
            "until systemctl is-active -q mlflow-backup-sandbox@restore || "
            "[ $(systemctl show -P ActiveState mlflow-backup-sandbox@restore) = activating ]; "
            "do sleep 0.1; done; systemctl kill --signal=KILL mlflow-backup-drill; "
            "while systemctl show -P ActiveState mlflow-backup-drill | grep activating; "
            "do sleep 0.2; done >&2"
        )
        assert root("pgrep -u mlflow-drill || true") == ""
        assert "drill" not in root("ls /var/lib/mlflow-backup | grep -v json || true")
    finally:
        root('cp -p /root/fetched-file "$(cat /root/fetched-name)"; rm /root/fetched-*; '
             "systemctl reset-failed")  # fmt: skip


SEARCH = "http://localhost:5000/api/2.0/mlflow/experiments/search?max_results=1"
PREDICT = "http://127.0.0.1:5001/models/to-be-backed-up/invocations"
INPUTS = """--json '{"inputs": [[5.1, 3.5, 1.4, 0.2]]}' -H 'Host: localhost:5001'"""


# Any account may listen there while the server is down; this one keeps what it is told.
THIEF = """
mkdir -p ~/store/0; cat > ~/store/0/meta.yaml <<'END'
{artifact_location: file:///home/ada/store/0, experiment_id: '0', lifecycle_stage: active, name: x}
END
cat > thief.py <<'END'
import http.server
class Thief(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with open("told", "a") as file:
            print(self.headers.get("Authorization", "nothing"), file=file)
        self.send_error(503)
    do_POST = do_PUT = do_DELETE = do_GET
http.server.ThreadingHTTPServer(("127.0.0.1", 5000), Thief).serve_forever()
END
rm -f told; nohup python3 thief.py > /dev/null 2>&1 & echo $!
until curl -s -o /dev/null localhost:5000; do sleep 0.2; done
"""


def test_users_come_to_a_server_that_has_data_and_go_again(
    root: Run, ssh: Run, play: Run, refused: Run
) -> None:
    """The smoke, a backup, its drill, the doctor and a served model know how to log in, and where.

    (So does a promotion.)
    """

    def status(address: str) -> str:
        return ssh(f"curl -s -o /dev/null -w '%{{http_code}}' {address}").strip()

    users = {"mlflow_server_auth": "true"}
    model = {"mlflow_model_serving_model": "models:/to-be-backed-up/1"}
    try:
        said = play("scenario2.yml", user="ops", **users)
        assert "B may not, with A's work" in said and "the administrator: admin" in said
        login = f"-u 'admin:{root('cat /etc/mlflow/admin_password').strip()}'"
        assert [status(f"'{SEARCH}' {who}") for who in ("", login)] == ["401", "200"]
        root("systemctl start mlflow-backup; mlflow-backup drill")
        assert "changed=0" in play("doctor.yml", user="ops", **users)
        play("deploy_model.yml", user="ops", **users, **model)
        asked = f"{PREDICT} {INPUTS}"
        assert [status(f"{asked} {who}") for who in ("", login)] == ["401", "200"]
        root("systemctl stop mlflow")
        thief = ssh(THIEF).strip()
        try:
            for name, extra in {
                "smoke.yml": {},
                "promote.yml": {"mlflow_promote_source": "/home/ada/store"},
                # Another than is served: for that one it goes on without the registry.
                "deploy_model.yml": {"mlflow_model_serving_model": "models:/to-be-backed-up/2"},
            }.items():
                assert "who is told no password" in refused(name, user="ops", **users, **extra)
        finally:
            ssh(f"kill {thief}")
            root("systemctl start mlflow")
        assert set(ssh("cat told; rm -r told thief.py store").splitlines()) == {"nothing"}
    finally:
        play("deploy_model.yml", user="ops", mlflow_model_serving_state="absent", **users, **model)
        root(
            "apt-get purge -qq -y nginx nginx-common >/dev/null 2>&1; rm -rf /etc/nginx /var/www "
            "/etc/systemd/system/nginx.service.d; systemctl daemon-reload"
        )
        play("scenario2.yml", "--skip-tags", "smoke", user="ops")
        root("rm -f /var/lib/mlflow/auth.db* /etc/mlflow/admin_password /etc/mlflow/basic_auth.ini")
    assert status(f"'{SEARCH}'") == "200"
