"""Models from the registry, served on loopback, each by itself; and then no longer."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

from hosts import ROOT, ended

# Scenario 3 has the same on the other Debian.
HOSTS = "debian13-server"

Run = Callable[..., str]

# Until here all models had one user, and what brought their packages had no sandbox.
BEFORE = "c9f28c0aaf7baa9da5b719f721a845912293d1f8"

TRAIN = """
import mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
X, y = load_iris(return_X_y=True)
mlflow.set_experiment("serving")
signature = mlflow.models.infer_signature(X, y)
with mlflow.start_run() as run:
    mlflow.sklearn.log_model(
        LogisticRegression(C=0.1, random_state=42).fit(X, y), name="models",
        signature=signature, pip_requirements=["scikit-learn"],
        registered_model_name="served-iris",
    )
    with open("hostile.py", "w") as file:
        file.write(HOSTILE)
    mlflow.pyfunc.save_model("hostile", python_model="hostile.py", pip_requirements=[],
                             signature=mlflow.models.infer_signature(X))
    with open("hostile/requirements.txt", "w") as file:  # MLflow would come as well
        file.write("hostile @ file:///srv/wheels/hostile-1-py3-none-any.whl")
    mlflow.log_artifacts("hostile", "hostile")
mlflow.register_model(f"runs:/{run.info.run_id}/hostile", "hostile")
mlflow.MlflowClient().set_registered_model_alias("served-iris", "champion", "1")
print(mlflow.sklearn.load_model("models:/served-iris/1").predict(X[::50]).tolist())
"""
# It says what it could do, whenever it was run.
HOSTILE = """
import mlflow
import hostile

class Hostile(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return ["; ".join(hostile.tried()) or "nothing"] * len(model_input)

mlflow.models.set_model(Hostile())
"""
# At each start of its Python: what it says of others, and does to them and to itself. The packages
# that it does not bring are the server's.
WHEEL = r"""
import glob, zipfile
[there] = glob.glob("/opt/mlflow/current/lib/python3*/site-packages")
info = "hostile-1.dist-info"
with zipfile.ZipFile("/srv/wheels/hostile-1-py3-none-any.whl", "w") as wheel:
    wheel.writestr("hostile.pth", f"{there}\nimport hostile\n")
    wheel.writestr("hostile.py", TRIED)
    wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: hostile\nVersion: 1\n")
    wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n"
                                    "Tag: py3-none-any\n")
    wheel.writestr(f"{info}/RECORD", "")
"""
TRIED = """
import glob, os, socket

ROOT = "/var/lib/mlflow-models"

def tried():
    done = []
    for place in (f"{ROOT}/deployments/*/model/*", f"{ROOT}/environments/*/*", "/srv/wheels/*"):
        for path in glob.glob(place):
            for do in (lambda: open(path, "ab").write(b"hostile"),
                       lambda: "/model/" in path and os.rename(path, path + "~"),
                       lambda: open(os.path.dirname(path) + "/planted", "w").close()):
                try:
                    if do() is not False:
                        done.append(path)
                except OSError:
                    pass
            if "/served-iris-" in path:
                done.append(f"{path} is seen")
    for path in glob.glob("/run/mlflow-model/served-iris-*"):
        try:
            os.listdir(path)
            socket.socket(socket.AF_UNIX).connect(path + "/http.sock")
            done.append(f"{path} is reached")
        except OSError:
            pass
    return done

tried()
"""
ASK = (
    "curl -s -w ' %{{http_code}}' -H 'Host: {0}' --json '"
    '{{"inputs": [[5.1, 3.5, 1.4, 0.2], [7.0, 3.2, 4.7, 1.4], [6.3, 3.3, 6.0, 2.5]]}}'
    "' http://127.0.0.1:5001/models/{1}/invocations"
)
# Of one that is served: its files, by name and content.
FILES = """
cd /var/lib/mlflow-models/deployments/served-iris-*
find . -type f -not -name deployment.json -exec sha256sum {} + | sort
"""
CLEAN = """
systemctl stop "mlflow-model@*"
cd /etc/systemd/system
rm -rf *.wants/mlflow-model@* mlflow-model@*-* nginx.service.d /srv/wheels /var/lib/mlflow-models
apt-get purge -qq -y nginx nginx-common >/dev/null 2>&1
rm -rf /etc/nginx /var/www
systemctl daemon-reload
"""
OTHERS = "sudo find /var/lib/mlflow-models -mindepth 1 -not -uid 0 -o -perm /022 -not -type l"


def test_served_on_loopback(
    ssh: Run, play: Run, playbook: Callable[..., list[str]], tmp_path: Path
) -> None:
    """A hostile one finds nothing of the others, and what the release before has left goes on."""
    # Other tests have served models here: the release before cannot use what this one leaves.
    ssh(f"sudo sh <<'END'\n{CLEAN}\nEND", user="ops")
    run = (
        "cd $(mktemp -d); MLFLOW_TRACKING_URI=http://localhost:5000 "
        "/opt/mlflow/current/bin/python - 2>/tmp/said"
    )
    ssh("sudo install -d -o ada /srv/wheels", user="ops")
    ssh(f"python3 - <<'END'\nTRIED = {TRIED!r}\n{WHEEL}\nEND")
    said = ssh(f"({run} || cat /tmp/said) <<'END'\nHOSTILE = {HOSTILE!r}\n{TRAIN}\nEND")
    predicted = json.loads(said.splitlines()[-1])
    model = {"mlflow_model_serving_model": "models:/served-iris@champion"}
    before = ssh("ss -Hltn | awk '{print $4}' | sort")

    def asked(name: str = "served-iris") -> object:
        text, status = ssh(ASK.format("localhost:5001", name)).rsplit(" ", 1)
        assert status == "200", text
        return json.loads(text)["predictions"]

    def files() -> str:
        return ssh(f"sudo sh -eu <<'END'\n{FILES}\nEND", user="ops")

    try:
        archive = subprocess.run(
            ["git", "archive", BEFORE], cwd=ROOT, stdout=subprocess.PIPE, check=True
        )
        subprocess.run(["tar", "-C", tmp_path, "-x"], input=archive.stdout, check=True)
        command = playbook("deploy_model.yml", user="ops", **model)
        command[1] = f"{tmp_path}/playbooks/deploy_model.yml"
        # Without what keeps packed modules by their names: that release has others.
        alone = ["env", f"--chdir={tmp_path}", "--unset=ANSIBLE_CALLBACKS_ENABLED"]
        ended([*alone, *command], 0)
        assert asked() == predicted
        brought = files()

        hostile = play(
            "deploy_model.yml", user="ops", mlflow_model_serving_model="models:/hostile/1",
            mlflow_model_serving_environment="own",
        )  # fmt: skip
        assert "pickles     refused by MLflow" in hostile
        assert asked("hostile") == ["nothing"] * 3
        assert (files(), asked()) == (brought, predicted)
        assert ssh(OTHERS, user="ops") == ""
        ssh("sudo systemctl restart 'mlflow-model@served-iris-*'", user="ops")
        assert asked() == predicted

        again = play("deploy_model.yml", user="ops", **model)
        assert "what holds a hostile one is the sandbox" in again
        assert asked() == predicted
        assert ssh("getent passwd mlflow-model || true") == ""
        users = ssh("systemctl show -P User 'mlflow-model@*'").split()
        assert len({*users}) == 2
        assert ssh(ASK.format("evil.example", "served-iris")).endswith(" 421")
        now = ssh("ss -Hltn | awk '{print $4}' | sort")
        assert {*now.split()} - {*before.split()} == {"127.0.0.1:5001"}  # no welcome page on 80
        assert "changed=0" in play("deploy_model.yml", user="ops", **model)
        play("deploy_model.yml", user="ops", mlflow_model_serving_state="absent", **model)
        assert ssh(ASK.format("localhost:5001", "served-iris")).endswith(" 404")
    finally:  # the host as other tests know it
        ssh(f"sudo sh <<'END'\n{CLEAN}\nEND", user="ops")
