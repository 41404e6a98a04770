"""What Prometheus makes of a host's metrics: promtool over rules, and series that were scraped."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "roles/mlflow_monitoring/files/mlflow.rules.yml"
DASHBOARD = ROOT / "roles/mlflow_monitoring/files/mlflow.dashboard.json"

LAST_RUN = "mlflow_health_last_run_timestamp_seconds"
MINUTES = 120
OURS = re.compile(r"\b(?:mlflow|nginx|node)_\w+")

# The directory of a host's own backups is put aside for a status that a test writes.
BACKUP = "/var/lib/mlflow-backup"
KEEP = f"test ! -e {BACKUP} || mv {BACKUP} {BACKUP}.kept"
GIVE_BACK = f"rm -rf {BACKUP}; test ! -e {BACKUP}.kept || mv {BACKUP}.kept {BACKUP}"


def leave(folder: Path) -> str:
    """Return a playbook that takes off a host what playbooks/monitoring.yml has made there."""
    role = {"name": "mlflow_monitoring", "tasks_from": "uninstall"}
    play = {
        "hosts": "all",
        "become": True,
        "gather_facts": False,
        "tasks": [{"ansible.builtin.include_role": role}],
    }
    file = folder / "leave.yml"
    file.write_text(yaml.safe_dump([play]))
    return str(file)


def backup(hours: int, error: str = "") -> str:
    """Return the command that makes the last good backup one of some hours ago."""
    status = f'{{"last_success": %d, "error": "{error}", "max_age_hours": 26}}'
    return (
        f"install -d -m 0755 {BACKUP}; "
        f"printf '{status}' $(($(date +%s) - {hours} * 3600)) > {BACKUP}/status.json"
    )


def promtool(*arguments: str | Path, text: str = "") -> str:
    """Run Debian's promtool, see it content, and return what it says."""
    program = shutil.which("promtool", path=f"{os.environ['PATH']}:{ROOT}/.cache")
    if not program:
        pytest.fail("promtool is missing: molecule/lab/lab.py promtool")
    done = subprocess.run(
        [program, *arguments], input=text, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.fail(f"{text}\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


def samples(text: str) -> dict[str, float]:
    """Return the values in a scraped text, by series."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return {series: float(value) for series, value in (line.rsplit(" ", 1) for line in lines)}


def names(text: str) -> set[str]:
    """Return the names of exporters' metrics in a text, be it rules or what was scraped."""
    return set(OURS.findall(text))


def expressions() -> list[str]:
    """Return what the rules and the dashboard ask Prometheus for."""
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    dashboard = json.loads(DASHBOARD.read_text())
    targets = [target for panel in dashboard["panels"] for target in panel["targets"]]
    return [item["expr"] for item in [*rules, *targets]]


def series(
    scraped: str, job: str = "mlflow-host", *, later: str = "", stopped: bool = False
) -> list[dict[str, str]]:
    """Return two hours of what the rules look at, as promtool takes it, that begin with a text.

    Args:
        scraped: the text. promtool's clock starts with it.
        job: Prometheus' job.
        later: the same a little later; what was counted between the two is counted each minute.
        stopped: whether it is measured no more.
    """
    begin, end, looked_at = samples(scraped), samples(later or scraped), names(RULES.read_text())
    labels = f'job="{job}",instance="host"'
    begin = dict.fromkeys(end, 0.0) | begin  # what was not counted yet
    found = [{"series": f"up{{{labels}}}", "values": f"1+0x{MINUTES}"}]
    for name, value in begin.items():
        bare, _, rest = name.partition("{")
        if bare not in looked_at:
            continue
        step = end.get(name, value) - value if bare.endswith("_total") else 0
        if bare.endswith("_timestamp_seconds"):
            step = 60 if bare == LAST_RUN and not stopped else 0
            value -= begin[LAST_RUN] if value else 0
        full = f"{bare}{{{labels},{rest}" if rest else f"{bare}{{{labels}}}"
        found.append({"series": full, "values": f"{value:.6f}{step:+.6f}x{MINUTES}"})
    return found


def fires(folder: Path, inputs: list[dict[str, str]], expected: set[str]) -> None:
    """See that after two hours of these series exactly these alerts fire, by promtool."""
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": inputs,
                "promql_expr_test": [
                    {
                        "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                        "eval_time": f"{MINUTES}m",
                        "exp_samples": [
                            {"labels": f'{{alertname="{name}"}}', "value": 1}
                            for name in sorted(expected)
                        ],
                    }
                ],
            }
        ],
    }
    file = folder / "test.yml"
    file.write_text(yaml.safe_dump(test, sort_keys=False))
    promtool("test", "rules", file)
