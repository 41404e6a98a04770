"""Two data scientists, each at a login of her own, with what the playbook gave them and no more."""

import pytest
from exposure import exposed
from hosts import Lab

ADA, GRACE = "login1.example.com", "login2.example.com"
SERVER = "mlflow.example.com"
EXPERIMENT = "irises-of-ada"

TRAIN = """
import json
import mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

X, y = load_iris(return_X_y=True)
mlflow.set_experiment("irises-of-ada")
with mlflow.start_run() as run:
    model = LogisticRegression(C=0.1, random_state=42).fit(X, y)
    mlflow.log_params({"C": 0.1})
    mlflow.log_metric("accuracy", model.score(X, y))
    mlflow.sklearn.log_model(
        model, name="models", registered_model_name="irises-of-ada", pip_requirements=[]
    )
print(json.dumps(run.info.run_id))
"""

SEE = """
import json, sys
import mlflow
from mlflow.exceptions import MlflowException
from sklearn.datasets import load_iris

def outcome(action):
    try:
        action()
    except MlflowException as error:
        return error.get_http_status_code()
    return "done"

run_id = sys.argv[1]
client = mlflow.MlflowClient()
X, y = load_iris(return_X_y=True)
seen = {
    "accuracy": client.get_run(run_id).data.metrics["accuracy"],
    "model": float((mlflow.sklearn.load_model("models:/irises-of-ada/1").predict(X) == y).mean()),
    "metric": outcome(lambda: client.log_metric(run_id, "accuracy", 1.0)),
    "delete": outcome(lambda: client.delete_run(run_id)),
    "tag": outcome(lambda: client.set_model_version_tag("irises-of-ada", "1", "by", "grace")),
    "model deleted": outcome(lambda: client.delete_registered_model("irises-of-ada")),
    "own": outcome(lambda: client.create_experiment("of-grace")),
}
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def run_id(lab: Lab) -> str:
    """A run of Ada's, by `python program.py` and nothing else: her login knows her password."""
    return str(lab.python(ADA, "ada", TRAIN))


ANONYMOUS = """
import json
import mlflow
try:
    said = f"{len(mlflow.search_experiments())} experiments"
except Exception as error:
    said = str(error)
print(json.dumps(said))
"""


def typed(lab: Lab, user: str) -> str:
    """Return what a person types who has no file with her password."""
    return (
        f"export MLFLOW_TRACKING_USERNAME={user} "
        f"MLFLOW_TRACKING_PASSWORD='{lab.variables['vault_mlflow_users'][user]}'\n"
    )


def test_she_sees_what_her_colleague_did_and_changes_nothing_of_it(lab: Lab, run_id: str) -> None:
    assert lab.python(GRACE, "grace", SEE, run_id, before=typed(lab, "grace")) == {
        "accuracy": 0.96,
        "model": 0.96,
        "metric": 403,
        "delete": 403,
        "tag": 403,
        "model deleted": 403,
        "own": "done",
    }


def test_without_a_password_she_sees_nothing(lab: Lab) -> None:
    assert "401" in lab.python(GRACE, "grace", ANONYMOUS)


def test_the_file_with_her_password_is_hers(lab: Lab) -> None:
    assert lab.root(ADA, "stat -c '%a %U' ~ada/.mlflow/credentials").split() == ["600", "ada"]
    assert (
        lab.root(GRACE, "ls ~grace/.mlflow 2>&1 || true")
        .strip()
        .endswith("No such file or directory")
    )


def test_rows_are_in_postgresql_and_no_model_is_on_the_disk(lab: Lab, run_id: str) -> None:
    query = f"SELECT key, value FROM metrics WHERE run_uuid = '{run_id}'"  # noqa: S608 (a hex number)
    psql = f'cd /; runuser -u postgres -- psql -At mlflow -c "{query}"'
    assert lab.root(SERVER, psql).strip() == "accuracy|0.96"
    find = "find / -xdev \\( -name MLmodel -o -name model.skops \\) -not -path '*/site-packages/*'"
    assert lab.root(SERVER, find).strip() == ""


def test_units_are_as_closed_as_the_table_says(lab: Lab) -> None:
    units = "mlflow.service", "seaweedfs.service", "nginx.service", "mlflow-certificates.service"
    assert exposed(lambda script: lab.root(SERVER, script), *units) == {}
