"""A model from the registry, served beside the server on loopback; and then no longer."""

import json
from collections.abc import Callable

# Scenario 3 has the same on the other Debian.
HOSTS = "debian13-server"

Run = Callable[..., str]

TRAIN = """
import mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
X, y = load_iris(return_X_y=True)
mlflow.set_experiment("serving")
with mlflow.start_run():
    mlflow.sklearn.log_model(
        LogisticRegression(C=0.1, random_state=42).fit(X, y), name="models",
        signature=mlflow.models.infer_signature(X, y), pip_requirements=["scikit-learn"],
        registered_model_name="served-iris",
    )
mlflow.MlflowClient().set_registered_model_alias("served-iris", "champion", "1")
print(mlflow.sklearn.load_model("models:/served-iris/1").predict(X[::50]).tolist())
"""
ASK = (
    "curl -s -w ' %{{http_code}}' -H 'Host: {0}' --json '"
    '{{"inputs": [[5.1, 3.5, 1.4, 0.2], [7.0, 3.2, 4.7, 1.4], [6.3, 3.3, 6.0, 2.5]]}}'
    "' http://127.0.0.1:5001/models/served-iris/invocations"
)


def test_served_on_loopback(ssh: Run, play: Run) -> None:
    run = "MLFLOW_TRACKING_URI=http://localhost:5000 /opt/mlflow/current/bin/python - 2>/tmp/said"
    said = ssh(f"({run} || cat /tmp/said) <<'END'\n{TRAIN}\nEND").splitlines()[-1]
    model = {"mlflow_model_serving_model": "models:/served-iris@champion"}
    before = ssh("ss -Hltn | awk '{print $4}' | sort")
    try:
        play("deploy_model.yml", user="ops", **model)
        text, status = ssh(ASK.format("localhost:5001")).rsplit(" ", 1)
        assert status == "200"
        assert json.loads(text)["predictions"] == json.loads(said)
        assert ssh(ASK.format("evil.example")).endswith(" 421")
        now = ssh("ss -Hltn | awk '{print $4}' | sort")
        assert {*now.split()} - {*before.split()} == {"127.0.0.1:5001"}  # no welcome page on 80
        assert "changed=0" in play("deploy_model.yml", user="ops", **model)
        play("deploy_model.yml", user="ops", mlflow_model_serving_state="absent", **model)
        assert ssh(ASK.format("localhost:5001")).endswith(" 404")
    finally:  # the host as other tests know it
        ssh(
            "sudo sh -c 'apt-get purge -qq -y nginx nginx-common >/dev/null 2>&1; rm -rf "
            "/etc/nginx /var/www /etc/systemd/system/nginx.service.d; systemctl daemon-reload'",
            user="ops",
        )
