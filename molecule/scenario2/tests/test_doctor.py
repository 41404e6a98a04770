"""The doctor on a server of scenario 2: each thing is broken for real, named, and taken back."""

from collections.abc import Callable, Iterator

import pytest
from consultation import Case, Finding, consult, findings, see_named, serious
from hosts import ended
from versions import DEFAULT, UNGUARDED

# Scenario 3 has the same on the other Debian.
HOSTS = "debian13-server"

Run = Callable[..., str]
Again = Callable[[Case], list[Finding]]
UNIT = "/etc/systemd/system/mlflow.service"
ENV = "/etc/mlflow/server.env"
STATE = "/var/lib/mlflow"
BACKUP = "/var/lib/mlflow-backup"

# Puts a file aside, and back with its times: a service that read it need not read it again.
ASIDE = "cp -a {0} /run/aside"
BACK = "cp -a /run/aside {0}; rm /run/aside"
SQL = """/opt/mlflow/current/bin/python - <<'END_OF_PYTHON'
import sqlite3
with sqlite3.connect("/var/lib/mlflow/mlflow.db") as database:
    database.execute("UPDATE alembic_version SET version_num = {0}")
END_OF_PYTHON
"""

# Between a client and the server: passes all on, with the date of an hour later.
LATER = """python3 - >/dev/null 2>&1 <<'END_OF_PYTHON' &
import email.utils, http.server, time, urllib.request
class Relay(http.server.BaseHTTPRequestHandler):
    def do_GET(self, body=None):
        request = urllib.request.Request("http://localhost:5000" + self.path, body)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request) as answer:
            said = answer.read()
        self.send_response_only(200)
        self.send_header("Date", email.utils.formatdate(time.time() + 3600, usegmt=True))
        self.end_headers()
        self.wfile.write(said)
    def do_POST(self):
        self.do_GET(self.rfile.read(int(self.headers["Content-Length"])))
http.server.HTTPServer(("127.0.0.1", 5011), Relay).serve_forever()
END_OF_PYTHON
relay=$!; trap 'kill $relay' EXIT
until curl -s -o /dev/null http://localhost:5011/health; do sleep 0.1; done
"""

GONE = f"""runuser -u mlflow -- python3 - <<'END_OF_PYTHON'
import sqlite3
with sqlite3.connect("{STATE}/mlflow.db") as database:
    database.execute(\"\"\"{{}}\"\"\")
END_OF_PYTHON"""

CASES = {
    "a refused name": Case(
        ["refuses the name team.example.com:5000", "mlflow_server_allowed_hosts", "group_vars"],
        asked={"names": ["team.example.com"]},
    ),
    "a refused name, as a client sees it": Case(
        ["refuses the name team.example.com:5000", "Add team.example.com to"],
        "cp -a /etc/hosts /run/hosts; echo 127.0.0.1 team.example.com >> /etc/hosts",
        "cat /run/hosts > /etc/hosts; rm /run/hosts",  # it is mounted, and cannot be replaced
        kind="client",
        asked={"tracking_uri": "http://team.example.com:5000"},
    ),
    "artifacts of another owner": Case(
        ["mlflow, as whom it runs, cannot write", "root:root", f"chown -h mlflow: {STATE}"],
        f"chown root:root {STATE}/artifacts_local",
        f"chown mlflow:mlflow {STATE}/artifacts_local",
    ),
    "an experiment of another owner": Case(
        ["artifacts_local/7 belongs to root", "chown -hR mlflow:"],
        f"mkdir {STATE}/artifacts_local/7",
        f"rmdir {STATE}/artifacts_local/7",
    ),
    "artifacts on a disk mounted read-only": Case(
        ["mounted read-only", "findmnt"],
        f"mount -t tmpfs -o ro tmpfs {STATE}/artifacts_local",
        f"umount {STATE}/artifacts_local",
    ),
    "artifacts where the unit lets nobody write": Case(
        ["/srv/artifacts", "its unit lets it write only", "mlflow_server_artifacts_destination"],
        ASIDE.format(ENV) + f"; sed -i 's,{STATE}/artifacts_local,/srv/artifacts,' {ENV}; "
        "install -d -o mlflow -g mlflow /srv/artifacts",
        BACK.format(ENV) + "; rmdir /srv/artifacts",
    ),
    "artifacts that are gone": Case(
        ["is no directory here"],
        f"mv {STATE}/artifacts_local {STATE}/away",
        f"mv {STATE}/away {STATE}/artifacts_local",
    ),
    "artifacts of a model that are elsewhere": Case(
        ["these have no file in /var/lib/mlflow/artifacts_local: m-gone.", "playbooks/restore.yml"],
        GONE.format(
            "insert into logged_models values ('m-gone', 0, 'm', 'mlflow-artifacts:/0/gone', "
            "9e12, 9e12, 2, 'active', null, null, null)"
        ),
        GONE.format("delete from logged_models where model_id = 'm-gone'"),
    ),
    "another Python under the environment": Case(
        ["bin/python is python3.13 now, and its packages are not for that", "scenario2.yml makes"],
        "mv /opt/mlflow/current/lib/python3.13 /opt/mlflow/current/lib/python3.2",
        "mv /opt/mlflow/current/lib/python3.2 /opt/mlflow/current/lib/python3.13",
    ),
    "an older schema": Case(
        [
            "has schema 0dc1",
            f"MLflow {DEFAULT} needs dc1",
            "playbooks/upgrade.yml",
            "a backup first",
        ],
        SQL.format("0 || version_num"),
        SQL.format("substr(version_num, 2)"),
    ),
    "a database that root has written": Case(
        ["mlflow.db belongs to root", "nothing can be logged"],
        f"chown root: {STATE}/mlflow.db",
        f"chown mlflow: {STATE}/mlflow.db",
    ),
    "a full disk": Case(
        [f"The disk of {STATE}/artifacts_local has 52 MB left", "df -h"],
        f"mount -t tmpfs -o size=50m tmpfs {STATE}/artifacts_local; "
        f"chown mlflow: {STATE}/artifacts_local; chmod 750 {STATE}/artifacts_local",
        f"umount {STATE}/artifacts_local",
    ),
    "no more inodes": Case(
        ["has 0 inodes left", "df -i"],
        f"mount -t tmpfs -o size=3g,nr_inodes=1 tmpfs {STATE}/artifacts_local; "
        f"chown mlflow: {STATE}/artifacts_local; chmod 750 {STATE}/artifacts_local",
        f"umount {STATE}/artifacts_local",
    ),
    "secrets for all to read": Case(
        ["secrets.env is root:root 0644", "no secret any more", "chmod 0600"],
        "chmod 644 /etc/mlflow/secrets.env",
        "chmod 600 /etc/mlflow/secrets.env",
    ),
    "settings that the service cannot read": Case(
        [f"{ENV} is root:root 0640", "should be root:mlflow"],
        f"chown root:root {ENV}",
        f"chown root:mlflow {ENV}",
    ),
    "a command changed by hand": Case(
        ["mlflow-ready is not what these playbooks install"],
        ASIDE.format("/usr/local/sbin/mlflow-ready")
        + "; echo '# hello' >> /usr/local/sbin/mlflow-ready",
        BACK.format("/usr/local/sbin/mlflow-ready"),
        severity="warning",
    ),
    "a program of the package changed by hand": Case(
        ["current is not what these playbooks install"],
        ASIDE.format("/usr/local/lib/mlflow/current/mlflow_ops/server/ready.py")
        + "; echo '# hello' >> /usr/local/lib/mlflow/current/mlflow_ops/server/ready.py",
        BACK.format("/usr/local/lib/mlflow/current/mlflow_ops/server/ready.py"),
        severity="warning",
    ),
    "a unit changed by hand": Case(
        ["mlflow.service is not what the playbook writes", "--check --diff"],
        ASIDE.format(UNIT) + f"; sed -i s/NoNewPrivileges=yes/NoNewPrivileges=no/ {UNIT}",
        BACK.format(UNIT) + "; systemctl daemon-reload",
        severity="warning",
    ),
    "a unit with a drop-in": Case(
        ["changed by hand: /etc/systemd/system/mlflow.service.d/override.conf", "rm /etc/systemd"],
        f"mkdir {UNIT}.d; printf '[Service]\\nNice=5\\n' > {UNIT}.d/override.conf; "
        "systemctl daemon-reload",
        f"rm -r {UNIT}.d; systemctl daemon-reload",
        severity="warning",
    ),
    "a unit that systemd has not read": Case(
        ["systemd has not read it since", "systemctl daemon-reload"],
        f"mkdir {UNIT}.d; printf '[Service]\\nNice=5\\n' > {UNIT}.d/override.conf",
        f"rm -r {UNIT}.d; systemctl daemon-reload",
        severity="warning",
    ),
    "settings that the service has not read": Case(
        [f"was started before {ENV} changed", "systemctl restart mlflow"],
        ASIDE.format(ENV) + f"; touch {ENV}",
        BACK.format(ENV),
        severity="warning",
    ),
    "settings that cannot be read at all": Case(
        [f"{ENV} cannot be read", "No closing quotation", "writes it anew"],
        ASIDE.format(ENV) + f"; echo 'X=\"' >> {ENV}",
        BACK.format(ENV),
    ),
    "not there after a boot": Case(
        ["mlflow.service runs, and is disabled", "systemctl enable"],
        "systemctl disable mlflow 2>/dev/null",
        "systemctl enable mlflow 2>/dev/null",
        severity="warning",
    ),
    "a server that hangs": Case(
        ["The server runs, and does not work", "no answer from 127.0.0.1:5000"],
        "systemctl kill --signal=STOP mlflow",
        "systemctl kill --signal=CONT mlflow",
    ),
    "half an installation": Case(
        ["half installed: /opt/mlflow/current/bin/python is missing", "playbooks/scenario2.yml"],
        "mv /opt/mlflow/current /opt/mlflow/away",
        "mv /opt/mlflow/away /opt/mlflow/current",
    ),
    "never installed": Case(
        ["never set up here", "playbooks/scenario2.yml"],
        asked={"settings": "/etc/none/server.env", "unit": "none.service", "environment": "/none"},
    ),
    "another version than the inventory's": Case(
        [f"says mlflow_version 9.9.9, and here is {DEFAULT}", "playbooks/upgrade.yml"],
        asked={"version": "9.9.9"},
        severity="warning",
    ),
    "a stale backup": Case(
        ["100 hours old, and should be no older than 26", "playbooks/backup.yml", "disk full"],
        f"[ ! -e {BACKUP} ] || mv {BACKUP} {BACKUP}.away; install -d {BACKUP}; echo "
        "'{\"last_success\": '$(($(date +%s) - 360000))', \"last_attempt\": '$(date +%s)', "
        f'"error": "disk full", "set": "a", "max_age_hours": 26}}\' > {BACKUP}/status.json',
        f"rm -r {BACKUP}; [ ! -e {BACKUP}.away ] || mv {BACKUP}.away {BACKUP}",
    ),
    "a proxy that swallows the name": Case(
        ["go to the proxy http://127.0.0.1:9", "Add localhost to NO_PROXY"],
        kind="client",
        before="export http_proxy=http://127.0.0.1:9; unset no_proxy NO_PROXY",
    ),
    "a name that nobody knows": Case(
        ["The name team.invalid does not resolve here", "getent hosts"],
        kind="client",
        asked={"tracking_uri": "http://team.invalid:5000"},
    ),
    "a port where nobody listens": Case(
        ["port 5009, refuses connections", "systemctl status"],
        kind="client",
        asked={"tracking_uri": "http://localhost:5009"},
    ),
    "a client of another version": Case(
        [f"This client is MLflow {UNGUARDED}, and the server is {DEFAULT}", "mlflow_version"],
        "python3 -m venv --without-pip /opt/other; cd /opt/other/lib/python3.*/site-packages; "
        f"mkdir mlflow-{UNGUARDED}.dist-info",
        "rm -r /opt/other",
        kind="client",
        severity="warning",
        asked={"environment": "/opt/other"},
    ),
    "clocks that differ": Case(
        ["This host's clock and the server's differ by 3", "is behind", "set-ntp"],
        kind="client",
        asked={"tracking_uri": "http://localhost:5011"},
        before=LATER,
    ),
}


@pytest.fixture(scope="module")
def root(ssh: Run) -> Run:
    """Run a shell script on the host as root."""
    return lambda script: ssh(f"sudo sh -eu <<'END_OF_ROOT'\n{script}\nEND_OF_ROOT\n", user="ops")


@pytest.fixture(scope="module")
def look(playbook: Callable[..., list[str]], ssh: Run, root: Run) -> Iterator[Again]:
    """Look again as the playbook did, at something that is broken, on a host that is well."""
    root("sleep 2; touch -d '1 second ago' /run/before")
    looks = {look.kind: look for look in consult(playbook("doctor.yml", user="ops"))}
    assert set(looks) == {"host", "client"}

    def again(case: Case) -> list[Finding]:
        return findings(lambda script: ssh(script, user="ops"), looks[case.kind], case, "ada")

    for kind in looks:
        assert serious(again(Case(kind=kind))) == []
    yield again
    for kind in looks:
        assert serious(again(Case(kind=kind))) == []


def test_a_healthy_host_gets_a_clean_bill_and_stays_as_it_was(look: Again, root: Run) -> None:
    """No file is new or changed but the logs, and SQLite's list of who reads."""
    newer = root("find / /tmp -xdev -type f -newer /run/before -not -path '/var/log/*'")
    assert not set(newer.split()) - {f"{STATE}/mlflow.db-shm"}


@pytest.mark.parametrize("name", CASES)
def test_it_names(name: str, look: Again) -> None:
    see_named(look(CASES[name]), CASES[name])


def test_a_report_that_people_read(
    playbook: Callable[..., list[str]], look: Again, root: Run
) -> None:
    """The play fails, and says in one report what is wrong, what it means, and what to do."""
    root("chmod 644 /etc/mlflow/secrets.env")
    try:
        said = " ".join(ended(playbook("doctor.yml", user="ops"), 2).split())
    finally:
        root("chmod 600 /etc/mlflow/secrets.env")
    for words in (
        "things were looked at: 1 wrong error file modes: /etc/mlflow/secrets.env",
        "is root:root 0644, and should be root:root 0600. Others on this host",
        "next: chown root:root /etc/mlflow/secrets.env; chmod 0600 /etc/mlflow/secrets.env",
        "file modes; see the report above.",
        "changed=0",
    ):
        assert words in said
