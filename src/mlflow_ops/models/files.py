"""Fetch a registered model's files, or tell which of its requirements an environment does not meet.

  fetch DIRECTORY   of the model version that a JSON object on standard input names: tracking_uri,
                    username, password, ca (a file, or ''), model (models:/<name>/<version>)
  needs DIRECTORY   print a JSON object: unmet, which requirements this environment does not meet,
                    in words; and python, the model's, where it is another than this one

Run by the Python of an environment that has MLflow, as a user who owns nothing but the files.
"""

from __future__ import annotations

import json
import os
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

from ..client import only_to_service
from ..installation import RECORD

MLFLOW = {"mlflow", "mlflow-skinny", "mlflow-tracing"}


def fetch(directory: str) -> None:
    """Download the files of a model version into a directory."""
    asked = json.load(sys.stdin)
    settings = {
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


def unmet(directory: Path) -> list[str]:
    """Return, in words, what a model's requirements want and this environment does not have."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.version import Version

    file, words = directory / "requirements.txt", []
    for text in requirements(file) if file.exists() else []:
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            words.append(f"{text} (which is no package of an index)")
            continue
        if wanted.marker and not wanted.marker.evaluate():
            continue
        try:
            there = version(wanted.name)
        except PackageNotFoundError:
            words.append(f"{text} (not installed)")
            continue
        # An MLflow that is not older reads what another has written.
        oldest = [spec.version for spec in wanted.specifier if spec.operator == "=="]
        if wanted.name.lower() in MLFLOW and oldest and Version(there) >= Version(oldest[0]):
            continue
        if not wanted.specifier.contains(there, prereleases=True):
            words.append(f"{text} ({there} is installed)")
    return words


def other_python(directory: Path) -> str:
    """Return the Python that a model was logged with, where it is another than this, or ''."""
    text = (directory / "MLmodel").read_text(encoding="utf-8")
    found = re.search(r"(?m)^ +python_version: [\"']?((\d+)\.(\d+)[\w.]*)", text)
    same = not found or (int(found[2]), int(found[3])) == sys.version_info[:2]
    return "" if same or not found else found[1]


def main() -> None:
    """Do what the first argument says."""
    if sys.argv[1] == "fetch":
        fetch(sys.argv[2])
    else:
        model = Path(sys.argv[2])
        print(json.dumps({"unmet": unmet(model), "python": other_python(model)}))
