"""What Ada has logged locally comes to the team's server, from where she works, as hers."""

from pathlib import Path

from file_stores import FOUND, check, damaged, unpacked
from hosts import Lab

ADA, GRACE = "login1.example.com", "login2.example.com"
SOURCE = {"mlflow_promote_source": "/home/ada/sick/mlruns", "mlflow_promote_source_host": ADA}
OWNERS = """
import json, mlflow
from mlflow.exceptions import MlflowException
client = mlflow.MlflowClient()
[experiment] = [one for one in client.search_experiments() if one.name == name]
try:
    client.set_experiment_tag(experiment.experiment_id, "mine", "yes")
    print(json.dumps("hers"))
except MlflowException as error:
    print(json.dumps(error.error_code))
"""


def test_what_can_be_carried_is_and_it_is_hers(lab: Lab, tmp_path: Path) -> None:
    """As the server's users are: nobody is asked what she may, but it."""
    store = damaged(tmp_path)
    store.experiment("0", "Default")
    store.run("of the local Default", experiment="0")
    lab.ssh(ADA, unpacked(tmp_path, "sick"))
    try:
        said = lab.play("promote.yml", code=2, **SOURCE)
        assert "mlflow_promote_username is empty, and this server knows its users" in said
        user = {**SOURCE, "mlflow_promote_username": "ada"}
        said = lab.play("promote.yml", code=2, **user, **{"mlflow_promote_password": "not hers"})
        assert "401" in said and "nothing was changed" in said
        said = " ".join(lab.play("promote.yml", code=2, **user).split())
        assert f"{store.carried} runs carried" in said and f"runs: {store.left}" in said
        for name in store.named + store.refused:
            assert name in said, name
        again = lab.play("promote.yml", code=0, **user, mlflow_promote_incomplete="true")
        assert f"0 runs carried, {store.carried} were there already" in " ".join(again.split())
        found = lab.python(ADA, "ada", f"truth = {store.runs}\n{FOUND}")
        check(found, store)
        assert found["of the local Default"]["experiment"] == "Default of ada"
        whose = f"name = {store.name!r}\n{OWNERS}"
        assert lab.python(ADA, "ada", whose) == "hers"
        typed = lab.variables["vault_mlflow_users"]["grace"]
        login = f"export MLFLOW_TRACKING_USERNAME=grace MLFLOW_TRACKING_PASSWORD='{typed}'"
        assert lab.python(GRACE, "grace", whose, before=login) == "PERMISSION_DENIED"
    finally:
        lab.ssh(ADA, "rm -r ~/sick")
