"""What the playbook leaves to whoever comes first: a server on which nobody has been.

First of all files, by its name: what others make would have the number.
"""

from pathlib import Path

from hosts import Lab

ADA, SERVER = "login1.example.com", "mlflow.example.com"
NOTEBOOK = (Path(__file__).resolve().parents[2] / "lab/programs/notebook.py").read_text()
# Runs and what belongs to them, models, and what users are granted.
LEFT = {
    "mlflow": ("runs", "metrics", "params", "tags", "inputs", "logged_models", "experiment_tags",
               "registered_models", "model_versions", "trace_info"),
    "mlflow_auth": ("role_permissions", "experiment_permissions", "registered_model_permissions"),
}  # fmt: skip


def test_the_smoke_has_left_nothing(lab: Lab) -> None:
    """No row but Default's, nor a grant on what is gone."""
    for database, tables in LEFT.items():
        counts = [f"SELECT '{table}', count(*) FROM {table}" for table in tables]  # noqa: S608
        assert {*asked(lab, database, " UNION ALL ".join(counts))} == {f"{t}|0" for t in tables}
    assert asked(lab, "mlflow", "SELECT experiment_id, name FROM experiments") == ["0|Default"]


def asked(lab: Lab, database: str, query: str) -> list[str]:
    """Return the rows that a query selects."""
    return lab.root(SERVER, f'runuser -u postgres -- psql -XAt {database} -c "{query}"').split()


def test_a_notebook_that_names_experiment_1(lab: Lab) -> None:
    assert lab.python(ADA, "ada", NOTEBOOK) == "1"
