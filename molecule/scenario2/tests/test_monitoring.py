"""The health as Prometheus reads it: what breaks on the host is what alerts, and nothing else.

The rules run in Debian's promtool, over series that begin with what was scraped here.
"""

import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus import (
    BACKUP,
    GIVE_BACK,
    KEEP,
    backup,
    fires,
    leave,
    names,
    promtool,
    samples,
    series,
)

# Scenario 3 has the same on the other Debian.
HOSTS = "debian13-server"

Run = Callable[..., str]

HEALTH = "/usr/local/lib/mlflow/current health"
FILE = "/var/lib/mlflow-health/mlflow.prom"
TEXT = "/var/lib/prometheus/node-exporter/mlflow.prom"
# A measuring that the timer began before is not what is asked for: start would wait for that one.
SCRAPE = "systemctl restart mlflow-health; curl -sSf http://127.0.0.1:9100/metrics"

TRACES = (
    "find /etc /var/lib /usr/local "
    "-name 'mlflow-health*' -o -name mlflow.prom -o -name 'prometheus-n*'"
)

# Writes its argument into the database as the schema's revision, and prints what it was.
REVISION = """/opt/mlflow/current/bin/python -c "
import sqlite3, sys
database = sqlite3.connect('/var/lib/mlflow/mlflow.db')
print(*database.execute('SELECT version_num FROM alembic_version').fetchone())
database.execute('UPDATE alembic_version SET version_num = ?', sys.argv[1:])
database.commit()" """


@pytest.fixture(scope="module")
def root(ssh: Run) -> Run:
    """Run a shell script on the host as root."""

    def run(script: str) -> str:
        return ssh(f"sudo sh -eu <<'END_OF_SCRIPT'\n{script}\nEND_OF_SCRIPT\n", user="ops")

    return run


@pytest.fixture(scope="module")
def monitor(play: Run, ssh: Run) -> Run:
    """Run the playbook; this machine alone may ask the exporters."""
    me = ssh("echo ${SSH_CLIENT%% *}").strip()
    return lambda *words: play("monitoring.yml", *words, user="ops", mlflow_monitoring_allow=[me])


@pytest.fixture(scope="module", autouse=True)
def healthy(
    root: Run, monitor: Run, play: Run, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Have the host monitored, and what was scraped when all was well; leave it as it was."""
    root(f"{KEEP}\n{backup(1)}")
    try:
        monitor("--check", "--diff")
        assert "all is well" in monitor()
        yield root(SCRAPE)
    finally:
        play(leave(tmp_path_factory.mktemp("leave")), user="ops")
        root(GIVE_BACK)
    assert root(TRACES) == ""


def test_a_healthy_host_is_quiet(healthy: str, root: Run, tmp_path: Path) -> None:
    fires(tmp_path, series(healthy), set())
    ours = root(f"cat {FILE}")
    assert promtool("check", "metrics", text=ours) == ""
    assert names(ours) < names(healthy)
    seconds = {name for name in samples(ours) if name.startswith("mlflow_health_step_seconds")}
    assert len(seconds) == 5


@pytest.mark.parametrize(
    "breaks, mends, alerts, words",
    [
        (
            "systemctl stop mlflow",
            "systemctl start mlflow",
            {"MlflowDown"},
            "no answer from 127.0.0.1:5000",
        ),
        (
            "chmod 0500 /var/lib/mlflow/artifacts_local",
            "chmod 0750 /var/lib/mlflow/artifacts_local",
            {"MlflowArtifactsFailing"},
            "Put an artifact: HTTP 500",
        ),
        (backup(30), backup(1), {"MlflowBackupTooOld"}, ""),
        (backup(-5), backup(1), {"MlflowBackupTooOld"}, ""),
        (
            f"sed -i 's/{{/{{\"damaged\": 1, /' {BACKUP}/status.json",
            backup(1),
            {"MlflowBackupDamaged"},
            "",
        ),
        (backup(20, "no room"), backup(1), {"MlflowBackupFailed"}, ""),
        (f"rm {BACKUP}/status.json", backup(1), {"MlflowBackupNever"}, ""),
        (
            f"echo broken > {BACKUP}/status.json",
            backup(1),
            {"MlflowBackupNever"},
            "is not what a backup leaves",
        ),
        (
            f"rm {TEXT}; ln -s /nowhere {TEXT}",
            f"ln -sf {FILE} {TEXT}",
            {"MlflowHealthNotMeasured"},
            "",
        ),
    ],
)
def test_what_breaks_alerts(
    root: Run, tmp_path: Path, breaks: str, mends: str, alerts: set[str], words: str
) -> None:
    journal = "journalctl --sync; journalctl -u mlflow-health -o cat --no-pager --since=@"
    since = root("date +%s").strip()
    try:
        scraped = root(f"{breaks}\n{SCRAPE}")
    finally:
        root(mends)
    assert words in root(journal + since)
    fires(tmp_path, series(scraped), alerts)


def test_another_schema_alerts(root: Run, tmp_path: Path) -> None:
    known = root(REVISION + "cafe00000000").strip()
    try:
        scraped = root(SCRAPE)
    finally:
        root(REVISION + known)
    fires(tmp_path, series(scraped), {"MlflowSchemaNotCurrent"})


def test_a_health_that_is_measured_no_more_alerts(healthy: str, tmp_path: Path) -> None:
    fires(tmp_path, series(healthy, stopped=True), {"MlflowHealthNotMeasured"})


# By the installed program, with other files and directories than those of the unit.
MEASURE = f"runuser -u mlflow -- python3 -BEs {HEALTH} --output $PWD/out/mlflow.prom"


def test_certificates_near_their_end_alert(root: Run, tmp_path: Path) -> None:
    certificate = (
        "openssl req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -subj /CN=x "
        "-keyout /dev/null -days {0} -out {1}.pem 2>/dev/null"
    )
    scraped = root(f"""
        cd $(mktemp -d); chmod 0755 .; install -d -o mlflow out
        for days in 3 20 300; do {certificate.format("$days", "$days")}; chmod 0644 $days.pem; done
        {MEASURE} --certificate "$PWD/*.pem"
        cat out/mlflow.prom; rm -r $PWD""")
    # As if that of 20 days were for 200: one that is short-lived is left its first two thirds.
    scraped = re.sub(r"(lifetime_seconds\{.*/20\.pem\"\}) .*", rf"\1 {200 * 86400}", scraped)
    alerts = {"MlflowCertificateEndsSoon", "MlflowCertificateEnds"}
    fires(tmp_path, series(scraped), alerts)


@pytest.mark.parametrize("used, alert", [(93, "MlflowDiskFilling"), (99, "MlflowDiskFull")])
def test_a_disk_that_fills_up_alerts(root: Run, tmp_path: Path, used: int, alert: str) -> None:
    scraped = root(f"""
        cd $(mktemp -d); chmod 0755 .; mkdir full; install -d -o mlflow out
        mount -t tmpfs -o size=100m,nr_inodes=100 tmpfs full
        fallocate -l {used}m full/file; touch $(seq -f full/%g 95)
        {MEASURE} --directory $PWD/full
        umount full; cat out/mlflow.prom; rm -r $PWD""")
    fires(tmp_path, series(scraped), {alert, "MlflowInodesRunningOut"})


def test_who_is_named_can_ask_and_nobody_else(root: Run, variables: dict[str, str]) -> None:
    page = f"http://{variables['ansible_host']}:9100/metrics"
    with urllib.request.urlopen(page, timeout=30) as answer:
        assert b"\nmlflow_up 1\n" in answer.read()
    # From the host's own address, which is not named.
    assert root(f"curl -s -m 3 {page} || echo closed").strip() == "closed"


def test_a_second_run_changes_nothing(monitor: Run) -> None:
    assert "changed=0" in monitor()
