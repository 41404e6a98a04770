"""Models from the registry are served by the gateway, and callers notice nothing but new answers.

They are logged on Debian 13 and served on Debian 12; scenario 2 has the other way round.
In order: each test begins with what the one before has left to serve, and the last leaves none.
"""

import json
import re
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from hosts import Lab, document

SERVER, CLIENT = "mlflow.example.com", "login1.example.com"
NAME = f"constants-{uuid.uuid4().hex[:8]}"

# Versions 1 and 2 work, and take their time; 3 does not load, 4 does not predict; 5 wants XGBoost,
# which the server has not. From code, since the server's Python is another than Ada's; some of it
# in a file of its own.
CODE = """
import mlflow
from patience import rest

class Constant(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        self.value = context.model_config["value"]
        if self.value == 3:
            raise RuntimeError("the weights are not mine")

    def predict(self, context, model_input, params=None):
        rest()
        if self.value == 4:
            raise KeyError("petal_width")
        return [self.value] * len(model_input)

mlflow.models.set_model(Constant())
"""
# Prints what versions 1 and 2 say when she loads them herself.
TRAIN = """
import json, pathlib, sys
sys.path.append("more")
import mlflow, numpy, xgboost
from mlflow.models import infer_signature

pathlib.Path("constant.py").write_text(CODE)
pathlib.Path("patience.py").write_text("import time\\ndef rest(): time.sleep(0.2)\\n")
name = sys.argv[1]
X = numpy.array([[1.0, 2.0]])
signature = infer_signature(X, numpy.array([1.0]))
mlflow.set_experiment("serving")
for number in range(1, 5):
    with mlflow.start_run():
        mlflow.pyfunc.log_model(
            name="models", python_model="constant.py", model_config={"value": float(number)},
            code_paths=["patience.py"], signature=signature, pip_requirements=["cloudpickle"],
            registered_model_name=name,
        )
with mlflow.start_run():
    mlflow.xgboost.log_model(
        xgboost.XGBClassifier(n_estimators=1).fit([[0, 1], [1, 2]], [0, 1]), name="models",
        # A small environment: the client and what it predicts with.
        pip_requirements=["mlflow-skinny==" + mlflow.__version__, "pandas", "scikit-learn",
                          XGBOOST],
        registered_model_name=name,
    )
mlflow.MlflowClient().set_registered_model_alias(name, "champion", "1")
said = [mlflow.pyfunc.load_model(f"models:/{name}/{number}").predict(X) for number in (1, 2)]
print(json.dumps([list(answer) for answer in said]))
"""

# For both Pythons.
XGBOOST = "xgboost-cpu<3.3"
MORE = f"/opt/mlflow/current/bin/uv pip install -q --target more --no-deps '{XGBOOST}'"
CHANGE = """
import json, sys
import mlflow
client = mlflow.MlflowClient()
if sys.argv[2:]:
    client.rename_registered_model(*sys.argv[1:])
else:
    client.delete_registered_model(sys.argv[1])
print(json.dumps(0))
"""

MOVE = """
import json, sys
import mlflow
mlflow.MlflowClient().set_registered_model_alias(sys.argv[1], "champion", sys.argv[2])
print(json.dumps(0))
"""

# Four callers who ask without a pause until they are told to stop.
CALL = """
import base64, collections, http.client, json, os, ssl, sys, threading
path, login = f"/models/{sys.argv[1]}/invocations", os.environ["LOGIN"]
headers = {"Content-Type": "application/json",
           "Authorization": "Basic " + base64.b64encode(login.encode()).decode()}
context = ssl.create_default_context(cafile=os.environ["REQUESTS_CA_BUNDLE"])
seen, orders = collections.Counter(), []
def call():
    connection = http.client.HTTPSConnection("mlflow.example.com", timeout=60, context=context)
    order = []
    while not os.path.exists("stop-calling"):
        try:
            connection.request("POST", path, '{"inputs": [[1, 2]]}', headers)
            answer = connection.getresponse()
            said = [answer.status, json.loads(answer.read())["predictions"]]
        except Exception as error:
            said = [0, repr(error)]
            connection.close()
        seen[str(said[0])] += 1
        if order[-1:] != [said[1]]:
            order.append(said[1])
    orders.append(order)
threads = [threading.Thread(target=call) for _ in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(json.dumps({"seen": seen, "orders": orders}))
"""


@pytest.fixture(scope="module")
def said(lab: Lab) -> list[list[float]]:
    """What versions 1 and 2 predict where Ada loads them herself."""
    program = f"CODE, XGBOOST = {CODE!r}, {XGBOOST!r}\n{TRAIN}"
    return list(lab.python(CLIENT, "ada", program, NAME, before=MORE))


def login(lab: Lab, user: str) -> str:
    return f"{user}:{lab.variables['vault_mlflow_users'][user]}"


def ask(
    lab: Lab, user: str = "", name: str = NAME, row: tuple[float, ...] = (1, 2)
) -> tuple[int, str]:
    """Return the status and what somebody who asks from another host is answered."""
    who = f"-u '{login(lab, user)}'" if user else ""
    *lines, status = lab.ssh(
        CLIENT,
        ". /opt/mlflow/client/activate\n"
        f"curl -s -w '\\n%{{http_code}}' --cacert $REQUESTS_CA_BUNDLE {who} --json "
        f"'{{\"inputs\": [{[*row]}]}}' https://{SERVER}/models/{name}/invocations",
    ).splitlines()
    return int(status), "".join(lines)


def predicted(lab: Lab) -> Any:
    status, text = ask(lab, "ada")
    assert status == 200, text
    return json.loads(text)["predictions"]


def deploy(lab: Lab, version: str, name: str = NAME, **extra: Any) -> str:
    """Run the playbook, and return what it says in one line."""
    model = f"models:/{name}{version}"
    return " ".join(lab.play("deploy_model.yml", mlflow_model_serving_model=model, **extra).split())


@contextmanager
def callers(lab: Lab) -> Iterator[dict[str, Any]]:
    """Have callers ask all the time; afterwards the dictionary has what they were answered."""
    found: dict[str, Any] = {}
    before = f"rm -f stop-calling; export LOGIN='{login(lab, 'ada')}'"
    with ThreadPoolExecutor(1) as pool:
        calling = pool.submit(lab.python, CLIENT, "ada", CALL, NAME, before=before)
        try:
            yield found
        finally:
            lab.ssh(CLIENT, "touch stop-calling")
        found |= calling.result()


def unit(lab: Lab) -> str:
    """Return the one unit that serves it."""
    [line] = lab.root(
        SERVER, f"systemctl list-units --plain --no-legend 'mlflow-model@{NAME}-*'"
    ).splitlines()
    return line.split()[0]


def test_a_version_is_served_to_those_who_may_read_it(lab: Lab, said: list[list[float]]) -> None:
    output = deploy(lab, "@champion")
    assert f"{NAME} version 1 on {SERVER}" in output
    assert f"https://{SERVER}/models/{NAME}/invocations" in output
    assert predicted(lab) == said[0]
    assert ask(lab)[0] == 401
    assert "changed=0" in deploy(lab, "@champion")


def test_callers_notice_neither_bad_versions_nor_the_change(
    lab: Lab, said: list[list[float]]
) -> None:
    with callers(lab) as found:
        for version, words in {
            "/3": "It does not load: RuntimeError: the weights are not mine",
            "/4": "It loads, and does not predict (zeros, made from its signature): KeyError",
        }.items():
            refused = deploy(lab, version, code=2)
            assert words in refused
            assert "Version 1 is served as before" in refused
        lab.python(CLIENT, "ada", MOVE, NAME, "2")
        assert "version 2 is served, in place of version 1" in deploy(lab, "@champion")
    assert {*found["seen"]} == {"200"}, found
    assert found["seen"]["200"] > 100
    assert found["orders"] == [said] * 4


def test_it_needs_no_tracking_server(lab: Lab, said: list[list[float]]) -> None:
    """Not to start, and not to know those who asked before; others are not let in."""
    served = unit(lab)
    lab.root(SERVER, "systemctl stop mlflow")
    try:
        lab.root(SERVER, f"systemctl restart {served}; systemctl is-enabled {served}")
        assert predicted(lab) == said[1]
        status, text = ask(lab, "grace")
        assert (status, json.loads(text)["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")
        assert "version 1 is served, in place of version 2" in deploy(lab, "/1")  # and back
    finally:
        lab.root(SERVER, "systemctl start mlflow")
    assert predicted(lab) == said[0]


def test_it_is_closed(lab: Lab) -> None:
    served = unit(lab)
    exposure = lab.root(SERVER, f"systemd-analyze security --no-pager {served} | tail -1")
    found = re.search(r"exposure level for .*: ([0-9.]+)", exposure)
    assert found
    assert float(found[1]) <= 0.5
    instance = served.partition("@")[2].removesuffix(".service")
    refused = lab.ssh(
        SERVER,
        f"curl -sS --unix-socket /run/mlflow-model/{instance}/http.sock http://localhost/ping 2>&1;"
        f"cat /var/lib/mlflow-models/deployments/{instance}/model/MLmodel 2>&1; true",
    )
    assert refused.count("ermission denied") + refused.count("ouldn't connect") == 2, refused


def test_packages_of_its_own_where_the_server_s_do_not_do(lab: Lab) -> None:
    said = deploy(lab, "/5")
    assert f"does not have what it requires: {XGBOOST} (not installed)" in said
    assert "(zeros, as many as it says that it takes)" in said
    assert predicted(lab) in ([0], [1])


def test_the_document_s_own_program(lab: Lab) -> None:
    """What it logs has neither example nor signature, and the packages of another Debian."""
    name = f"{NAME}-iris"
    program = (
        document("scenario2.md").replace("iris-classifier", name).replace("my-experiment-1", name)
    )
    lab.python(CLIENT, "ada", f"{program}\nprint(0)")
    try:
        assert "packages those of /opt/mlflow/" in deploy(lab, "/1", name)
        status, text = ask(lab, "ada", name, (5.1, 3.5, 1.4, 0.2))
        assert (status, json.loads(text)) == (200, {"predictions": [0]})
    finally:
        deploy(lab, "", name, mlflow_model_serving_state="absent")


def test_a_name_that_changes_and_a_model_that_goes(lab: Lab) -> None:
    """Nginx forgets what it knew of the callers, as it does after a minute."""
    forget = "find /run/nginx-mlflow-models -type f -delete"
    lab.python(CLIENT, "ada", CHANGE, NAME, f"{NAME}-now")
    lab.root(SERVER, forget)
    assert [ask(lab, user)[0] for user in ("ada", "grace", "")] == [200, 200, 401]
    lab.python(CLIENT, "ada", CHANGE, f"{NAME}-now")
    lab.root(SERVER, forget)
    status, text = ask(lab, "ada")
    assert (status, json.loads(text)["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_withdrawn(lab: Lab) -> None:
    deploy(lab, "", mlflow_model_serving_state="absent")
    assert ask(lab, "ada")[0] in (403, 404)  # which the tracking server answers now
    left = lab.root(
        SERVER,
        "ls -A /var/lib/mlflow-models/*; ls /run/mlflow-model /etc/nginx/mlflow.d;"
        "ls /etc/systemd/system /etc/systemd/system/*.wants; pgrep -f mlflow_ops.models || true",
    )
    assert NAME not in left
    assert "No model is served" in lab.root(SERVER, "mlflow-model status")
