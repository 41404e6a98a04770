"""Starting afresh, and the end. The last tests of these hosts: afterwards nothing is there."""

from functools import partial

from hosts import Lab
from traces import traces

ADA, SERVER = "login1.example.com", "mlflow.example.com"
NAME = SERVER  # the installation's, its public name

LOG = """
import json
import mlflow
mlflow.set_experiment("of-an-earlier-life")
with mlflow.start_run():
    mlflow.log_text("content", "note.txt")
print(json.dumps(mlflow.active_run() is None))
"""

SEE = """
import json
import mlflow
experiments = [experiment.name for experiment in mlflow.search_experiments()]
print(json.dumps([experiments, len(mlflow.search_runs(search_all_experiments=True))]))
"""


def test_reset_forgets_what_was_logged_and_no_user(lab: Lab) -> None:
    lab.python(ADA, "ada", LOG)
    said = lab.play("reset.yml", code=2)
    for words in (
        " runs",
        " files",
        "s3://mlflow/artifacts",
        f"mlflow_server_reset_confirm={NAME}",
    ):
        assert words in " ".join(said.split())
    lab.play("reset.yml", mlflow_server_reset_confirm=NAME)
    assert lab.python(ADA, "ada", SEE) == [["Default"], 0]
    grants = "'SELECT resource_pattern FROM role_permissions'"
    assert lab.root(SERVER, f"cd /; runuser -u postgres -- psql -At mlflow_auth -c {grants}") == ""
    assert "changed=0" in lab.play("reset.yml")


def test_with_its_name_no_trace_is_left(lab: Lab) -> None:
    for changed in (True, False):
        said = lab.play("uninstall.yml", mlflow_uninstall_data=NAME)
        assert ("changed=0" in said) != changed
    for host, image in ((SERVER, "debian12"), (ADA, "debian13")):
        assert traces(partial(lab.root, host), image) == set()
