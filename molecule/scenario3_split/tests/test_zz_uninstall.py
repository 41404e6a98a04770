"""The end, of several hosts: what serves models, and what is watched, are not servers here."""

from functools import partial

from hosts import Lab
from traces import traces

DATABASE, GATEWAY, CLIENT = "db.example.com", "mlflow.example.com", "login.example.com"

TRAIN = """
import json
import mlflow
from sklearn.linear_model import LinearRegression
mlflow.set_experiment("of-the-last-day")
with mlflow.start_run():
    mlflow.sklearn.log_model(
        LinearRegression().fit([[0], [1]], [0, 1]), name="model", input_example=[[2]],
        registered_model_name="of-the-last-day", pip_requirements=[],
    )
print(json.dumps(None))
"""


def test_with_its_name_no_trace_is_left(lab: Lab) -> None:
    lab.python(CLIENT, "ada", TRAIN)
    model = "models:/of-the-last-day/1"
    assert "1 is served" in lab.play("deploy_model.yml", mlflow_model_serving_model=model)
    lab.play("monitoring.yml", "--limit", DATABASE)
    lab.play("uninstall.yml", mlflow_uninstall_data=GATEWAY)
    for host, image in ((DATABASE, "debian12+hardened"), (GATEWAY, "debian13+hardened")):
        assert traces(partial(lab.root, host), image) == set()
