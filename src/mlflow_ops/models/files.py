"""What is done with a model's files before it is served: each a step in a sandbox (deploy.py).

  fetch DIRECTORY    of the model version that a JSON object on standard input names: tracking_uri,
                     username, password, ca (a file, or ''), model (models:/<name>/<version>)
  wants DIRECTORY    print a JSON list: the texts of the model's requirements; null without any
  install DIRECTORY  into a new environment, what they say, as a JSON object on standard input
                     says: uv, python, environment (a directory to be made), settings (variables)
  needs DIRECTORY [ENVIRONMENT]
                     print a JSON object: unmet, which requirements an environment does not meet
                     (this one, or another), in words; and python, the model's, where it is
                     another than this one

Run by the Python of an environment that is root's and has MLflow: it looks at what a model has
brought, and runs none of it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..client import only_to_service
from ..installation import RECORD

MLFLOW = {"mlflow", "mlflow-skinny", "mlflow-tracing"}
# What MLflow finds among the modules of who logs a model, and no model predicts with.
UNNEEDED = {"pytest"}
INDEX = re.compile(r"(?m)^--(?:extra-)?index-url[ =]+(\S+)")


def fetch(directory: str) -> None:
    """Download the files of a model version into a directory."""
    asked = json.load(sys.stdin)
    settings = {
        **asked["settings"],
        "MLFLOW_TRACKING_URI": asked["tracking_uri"],
        "MLFLOW_TRACKING_USERNAME": asked["username"],
        "MLFLOW_TRACKING_PASSWORD": asked["password"],
        "MLFLOW_TRACKING_SERVER_CERT_PATH": asked["ca"],
        "REQUESTS_CA_BUNDLE": asked["ca"],  # where artifacts come from the store itself
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }
    os.environ.update({name: value for name, value in settings.items() if value})
    # A proxy of the host's leads to the world, and may be needed to reach the store; not to this.
    own = urlsplit(asked["tracking_uri"]).hostname or ""
    os.environ["NO_PROXY"] = ",".join(filter(None, [os.environ.get("NO_PROXY"), own]))
    from mlflow.artifacts import download_artifacts

    if asked["username"] and RECORD.parent.is_dir():  # its port is free while it is down
        only_to_service()
    download_artifacts(artifact_uri=asked["model"], dst_path=directory)


def requirements(file: Path) -> list[str]:
    """Return the requirements in a file and in those that it includes, as they are written."""
    found = []
    for line in file.read_text(encoding="utf-8").splitlines():
        text = line.partition(" #")[0].strip()
        option, _, included = text.partition(" ")
        if option in ("-r", "--requirement"):
            found += requirements(file.parent / included.strip())
        elif text and text[0] not in "#-":
            found.append(text)
    return found


def texts(file: Path) -> list[str]:
    """Return the text of requirements, and of those and the constraints that they include.

    They are files: one that is an address is not found.
    """
    text = file.read_text(encoding="utf-8")
    if re.search(r"(?m)^[^\w#-]*(-e|--editable)", text):  # which uv would build all the same
        raise SystemExit(f"{file.name} has -e, and wheels alone are installed.")
    included = re.findall(r"(?m)^(?:-r|-c|--requirement|--constraint)[ =]+(\S+)", text)
    return [text, *(inner for name in included for inner in texts(file.parent / name))]


def install(directory: str) -> int:
    """Make an environment of what a model requires; return uv's exit code."""
    asked = json.load(sys.stdin)
    environment: str = asked["environment"]
    settings = {
        **asked["settings"],
        "HOME": "/nonexistent",
        # On the same file system, so that files are linked and not copied; it goes afterwards.
        "UV_CACHE_DIR": str(Path(environment).parent / ".cache"),
        "UV_SYSTEM_CERTS": "true",
        "UV_PYTHON_DOWNLOADS": "never",
    }
    file = f"{directory}/requirements.txt"
    # A model that names an index of its own (PyTorch's) wants some packages from there, and not
    # whatever else there is: as pip has it, for which MLflow writes these files.
    named = any(map(INDEX.search, texts(Path(file))))
    strategy = ["--index-strategy=unsafe-best-match"] if named else []
    for command in (
        ("venv", "--quiet", "--python", asked["python"], environment),
        # Wheels alone: nothing that a model names is run while it is installed.
        ("pip", "install", "--quiet", "--python", f"{environment}/bin/python",
         "--only-binary=:all:", *strategy, "--requirement", file),
    ):  # fmt: skip
        done = subprocess.run([asked["uv"], *command], env={**os.environ, **settings}, check=False)
        if done.returncode:
            break
    return done.returncode


def packages(environment: str) -> list[str]:
    """Return where another environment has its packages, for importlib.metadata."""
    return [str(path) for path in Path(environment).glob("lib/python3.*/site-packages")]


def unmet(directory: Path, environment: str = "") -> list[str]:
    """Return, in words, what a model's requirements want and an environment does not have.

    Of another environment than this one the files are read: what a wheel has brought for its Python
    to run at each start (.pth) answers for nobody.
    """
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.version import Version

    there: dict[str, Any] = {"path": packages(environment)} if environment else {}
    file, words = directory / "requirements.txt", []
    for text in requirements(file) if file.exists() else []:
        try:
            required = Requirement(text)
        except InvalidRequirement:
            words.append(f"{text} (which is no package of an index)")
            continue
        if required.marker and not required.marker.evaluate():
            continue
        if required.name.lower() in UNNEEDED:
            continue
        found = next(iter(distributions(name=required.name, **there)), None)
        if found is None:
            words.append(f"{text} (not installed)")
            continue
        # An MLflow that is not older reads what another has written.
        oldest = [spec.version for spec in required.specifier if spec.operator == "=="]
        old = required.name.lower() not in MLFLOW or not oldest
        if not old and Version(found.version) >= Version(oldest[0]):
            continue
        if not required.specifier.contains(found.version, prereleases=True):
            words.append(f"{text} ({found.version} is installed)")
    return words


def other_python(directory: Path) -> str:
    """Return the Python that a model was logged with, where it is another than this, or ''."""
    text = (directory / "MLmodel").read_text(encoding="utf-8")
    found = re.search(r"(?m)^ +python_version: [\"']?((\d+)\.(\d+)[\w.]*)", text)
    same = not found or (int(found[2]), int(found[3])) == sys.version_info[:2]
    return "" if same or not found else found[1]


def main() -> int:
    """Do what the first argument says; return the exit code."""
    verb, directory, *environment = sys.argv[1:]
    model = Path(directory)
    if verb == "install":
        return install(directory)
    if verb == "fetch":
        fetch(directory)
    elif verb == "wants":
        file = model / "requirements.txt"
        print(json.dumps(texts(file) if file.is_file() else None))
    else:
        print(json.dumps({"unmet": unmet(model, *environment), "python": other_python(model)}))
    return 0
