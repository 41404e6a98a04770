"""What the playbook leaves to whoever comes first: a server on which nobody has been.

First of all files, by its name: what others make would have the number.
"""

import json
from collections.abc import Callable
from pathlib import Path

HOSTS = "debian13-server"

Run = Callable[..., str]
NOTEBOOK = (Path(__file__).resolve().parents[2] / "lab/programs/notebook.py").read_text()
# All tables with something in them, as far as people, or the smoke, put it there.
ROWS = """
import json, sqlite3
file = sqlite3.connect("file:/var/lib/mlflow/mlflow.db?mode=ro", uri=True)
of_itself = {"alembic_version", "workspaces"}
names = [row[0] for row in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
counts = {name: file.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}
print(json.dumps({n: count for n, count in counts.items() if count and n not in of_itself}))
"""


def test_the_smoke_has_left_nothing(ssh: Run) -> None:
    """No row but Default's, and no file."""
    rows = ssh(f"sudo runuser -u mlflow -- python3 - <<'END'\n{ROWS}\nEND", user="ops")
    assert json.loads(rows) == {"experiments": 1}
    assert ssh("sudo find /var/lib/mlflow/artifacts_local -mindepth 1", user="ops") == ""


def test_a_notebook_that_names_experiment_1(ssh: Run) -> None:
    said = ssh(
        "cd && export MLFLOW_TRACKING_URI=http://localhost:5000\n"
        f"/opt/mlflow/current/bin/python - <<'END'\n{NOTEBOOK}\nEND"
    )
    assert json.loads(said.splitlines()[-1]) == "1"
