"""The health of a server with users, PostgreSQL, S3 and nginx, as Prometheus reads it.

The rules run in Debian's promtool, over series that begin with what was scraped here.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from exposure import exposed
from hosts import Lab
from prometheus import (
    GIVE_BACK,
    KEEP,
    RULES,
    backup,
    expressions,
    fires,
    leave,
    names,
    promtool,
    samples,
    series,
)

SERVER = "mlflow.example.com"
# A measuring that the timer began before is not what is asked for: start would wait for that one.
HOST = "systemctl restart mlflow-health; curl -sSf http://127.0.0.1:9100/metrics"
NGINX = "curl -sSf http://127.0.0.1:9113/metrics"
# Through nginx.
ASK = f"curl -sS --resolve {SERVER}:443:127.0.0.1 --cacert /etc/ssl/mlflow/ca.pem https://{SERVER}"
SEARCH = (
    ASK
    + """/api/2.0/mlflow/experiments/search -o /dev/null --json '{"max_results": 1}' \\
  --user "admin:$(cat /etc/mlflow/admin_password)" """
)


@pytest.fixture(scope="module", autouse=True)
def monitored(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Have the hosts monitored, with a backup that went well; leave them as they were."""
    lab.root(SERVER, f"{KEEP}\n{backup(1)}")
    try:
        assert "all is well" in lab.play("monitoring.yml")
        yield
    finally:
        lab.play(leave(tmp_path_factory.mktemp("leave")), "--limit", SERVER)
        lab.root(SERVER, GIVE_BACK)


def test_a_healthy_server_is_quiet_and_no_expression_asks_in_vain(lab: Lab, tmp_path: Path) -> None:
    host, nginx = lab.root(SERVER, HOST), lab.root(SERVER, NGINX)
    fires(tmp_path, [*series(host), *series(nginx, "mlflow-nginx")], set())
    assert {name for name in samples(host) if "certificate_expiry" in name} == {
        f'mlflow_certificate_expiry_timestamp_seconds{{file="/etc/ssl/mlflow/{name}.pem"}}'
        for name in ("ca", "mlflow")
    }
    asked = expressions()
    assert names(" ".join(asked)) <= names(host + nginx)
    rules = [{"record": f"panel{number}", "expr": expr} for number, expr in enumerate(asked)]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "all", "rules": rules}]}))
    promtool("check", "rules", file)


def test_the_jobs_of_the_readme(tmp_path: Path) -> None:
    """Prometheus takes them, and the rules know their names."""
    readme = (RULES.parents[1] / "README.md").read_text()
    [config] = [
        block
        for block in re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL)
        if "scrape_configs" in block
    ]
    file = tmp_path / "prometheus.yml"
    file.write_text(config)
    promtool("check", "config", "--syntax-only", file)
    jobs = {job["job_name"] for job in yaml.safe_load(config)["scrape_configs"]}
    assert jobs == {"mlflow-host", "mlflow-nginx"}


def test_it_is_closed(lab: Lab) -> None:
    said = lab.root(SERVER, "ss -Hltn 'sport = :9100 or sport = :9113'").split()
    assert said.count("127.0.0.1:9100") == said.count("127.0.0.1:9113") == 1
    assert len(said) == 10  # two lines
    units = "mlflow-health", "prometheus-node-exporter", "prometheus-nginx-exporter"
    root = lambda script: lab.root(SERVER, script)  # noqa: E731
    assert exposed(root, *(f"{unit}.service" for unit in units)) == {}
    status = "-o /dev/null -w '%{http_code}'"
    assert lab.root(SERVER, f"{ASK}/metrics {status}") == "401"
    assert lab.root(SERVER, f"{ASK}/stub_status {status}") != "200"


def test_mlflow_counts_over_all_its_workers(lab: Lab) -> None:
    """Whichever of them is asked for it."""
    workers = lab.root(SERVER, "grep -oP '(?<=MLFLOW_WORKERS=.)[0-9]+' /etc/mlflow/server.env")
    assert int(workers) > 1
    post = 'mlflow_http_request_total{method="POST",status="200"}'
    before = samples(lab.root(SERVER, HOST))[post]
    lab.root(SERVER, f"for i in $(seq 20); do {SEARCH}; done")
    seen = [samples(lab.root(SERVER, HOST))[post] - before for _ in range(4)]
    assert 21 <= seen[0] < seen[1] < seen[2] < seen[3]  # each measuring is one more


def test_a_database_that_is_down_alerts(lab: Lab, tmp_path: Path) -> None:
    before = lab.root(SERVER, HOST)
    try:
        during = lab.root(SERVER, f"systemctl stop postgresql\n{SEARCH}\n{HOST}")
    finally:
        lab.root(SERVER, "systemctl start postgresql; mlflow-ready --wait 60")
    fires(tmp_path, series(during), {"MlflowDatabaseDown"})
    after = lab.root(SERVER, HOST)
    fires(tmp_path, series(before, later=after), {"MlflowErrors"})


def test_a_gateway_that_is_down_alerts(lab: Lab, tmp_path: Path) -> None:
    try:
        scraped = lab.root(SERVER, f"systemctl stop nginx\n{NGINX}")
    finally:
        lab.root(SERVER, "systemctl start nginx")
    fires(tmp_path, series(scraped, "mlflow-nginx"), {"MlflowGatewayDown"})
