"""Models from the registry, served on loopback, each by itself; and then no longer."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hosts import ROOT, Lab, document, ended
from versions import DEFAULT, LOCKS

# Scenario 3 has the same on the other Debian, and models that are logged on this one.
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


# A data scientist's computer, with Debian 12: our lock, LightGBM, what that wants of the system.
CLIENT = "laptop"
INSTALL = """
python3 -m venv env
env/bin/pip install -q --require-hashes -r uv.txt
env/bin/uv pip sync -q --require-hashes --python env/bin/python lock.txt
env/bin/uv pip install -q --python env/bin/python --no-deps lightgbm
"""
# Without example and signature. The last has a file of its own; the requirements of these keep the
# environment small, and MLflow finds out those of the document's own program.
LOG = """
import lightgbm, mlflow, sklearn, skops
from sklearn.datasets import load_iris

X, y = load_iris(return_X_y=True)
mlflow.set_experiment("others")
with mlflow.start_run():
    mlflow.lightgbm.log_model(lightgbm.LGBMClassifier(n_estimators=2, verbose=-1).fit(X, y),
                              name="models", registered_model_name="lightgbm",
                              pip_requirements=["mlflow-skinny==" + mlflow.__version__, "pandas",
                                                "scikit-learn==" + sklearn.__version__,
                                                "skops==" + skops.__version__,
                                                "lightgbm==" + lightgbm.__version__])
with mlflow.start_run():
    mlflow.pyfunc.log_model(name="models", python_model="model.py", code_paths=["own"],
                            pip_requirements=["cloudpickle"],
                            registered_model_name="paths")
"""
OWN = """
mkdir own; echo 'def answer(number): return [42.0] * number' > own/answers.py
cat > model.py <<'END'
import mlflow
from own.answers import answer

class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return answer(len(model_input))

mlflow.models.set_model(Model())
END
"""
# The files of a version, as the registry has them; and a version made of them elsewhere.
BRING = """
import mlflow
for name in ("iris-classifier", "lightgbm", "paths"):
    mlflow.artifacts.download_artifacts(f"models:/{name}/1", dst_path=f"out/{name}")
"""
TAKE = """
import mlflow
mlflow.set_experiment("serving")
with mlflow.start_run() as run:
    mlflow.log_artifacts("in", "others")
for name in ("iris-classifier", "lightgbm", "paths"):
    mlflow.register_model(f"runs:/{run.info.run_id}/others/{name}", f"{name}-of-12")
"""


@pytest.fixture(scope="module")
def logged_on_debian12(ssh: Run) -> Iterator[None]:
    """Models of a data scientist's with Debian 12 in the registry of this host."""
    command = [sys.executable, str(ROOT / "molecule/lab/lab.py")]
    up = ["up", CLIENT, f"{CLIENT}:debian12", "--user", "ops", "--cache"]
    subprocess.run([*command, *up], check=True, stdout=subprocess.PIPE)
    try:
        lab = Lab(CLIENT)
        lab.root(CLIENT, "apt-get update -qq; apt-get install -qq -y libgomp1 >/dev/null 2>&1")
        texts = {
            "uv.txt": (ROOT / "roles/mlflow/files/uv.txt").read_text(),
            "lock.txt": LOCKS[DEFAULT].read_text(),
            "train.py": document("scenario2.md"),
            "log.py": LOG,
            "bring.py": BRING,
        }
        written = "".join(f"cat > {name} <<'END'\n{text}\nEND\n" for name, text in texts.items())
        files = lab.ssh(
            CLIENT,
            f"set -e\n{written}{INSTALL}\n{OWN}\n"
            "for program in train log bring; do\n"
            "env/bin/python $program.py >said 2>&1 || { cat said; exit 1; }; done\n"
            "tar -C out -cz . | base64",
        )
    finally:
        subprocess.run([*command, "down", CLIENT], check=True)
    ssh(
        f"cd $(mktemp -d); mkdir in; base64 -d <<'END' | tar -C in -xz\n{files}\nEND\n"
        f"MLFLOW_TRACKING_URI=http://localhost:5000 /opt/mlflow/current/bin/python - "
        f">said 2>&1 <<'END' || {{ cat said; exit 1; }}\n{TAKE}\nEND"
    )
    yield
    ssh(f"sudo sh <<'END'\n{CLEAN}\nEND", user="ops")


@pytest.mark.parametrize(
    ("name", "extra", "words", "predictions"),
    [
        (
            "iris-classifier",
            {},
            ["packages those of /opt/mlflow/", "as many as"],
            [0, 1, 2],
        ),
        ("lightgbm", {}, ["does not have what it requires: lightgbm==", "as many as"], [0, 1, 2]),
        (
            "paths",
            {"mlflow_model_serving_proof": "unproved"},
            ["unproved it loads", "nothing is known to ask it", "refused by MLflow"],
            [42.0] * 3,
        ),
    ],
)
def test_a_model_of_debian_12(
    ssh: Run, play: Run, logged_on_debian12: None, name: str, extra: dict[str, str],
    words: list[str], predictions: list[Any],
) -> None:  # fmt: skip
    """The document's own, one with packages that the server has not, and one with its own code."""
    model = f"models:/{name}-of-12/1"
    said = play("deploy_model.yml", user="ops", mlflow_model_serving_model=model, **extra)
    said = " ".join(said.split())
    assert [word for word in words if word not in said] == []
    text, status = ssh(ASK.format("localhost:5001", f"{name}-of-12")).rsplit(" ", 1)
    assert (status, json.loads(text)) == ("200", {"predictions": predictions})


def test_a_package_that_debian_has_not(refused: Run, logged_on_debian12: None) -> None:
    said = refused(
        "deploy_model.yml", user="ops", mlflow_model_serving_model="models:/paths-of-12/1",
        mlflow_model_serving_system_packages=["no-such-package"],
    )  # fmt: skip
    assert "no-such-package cannot be installed on debian13-server" in said
    assert "take it out of mlflow_model_serving_system_packages" in said


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
