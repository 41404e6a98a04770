"""A record of what is installed, as the role mlflow_server writes it, in a folder of a test's."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlflow_ops import installation


def written(patch: pytest.MonkeyPatch, folder: Path, **changes: Any) -> installation.Installation:
    """Write one, let programs read it instead of the host's, and return it."""
    record = {
        "scenario": "scenario2", "unit": "mlflow.service", "user": "root",
        "environment": str(folder / "current"), "config_dir": str(folder),
        "state_dir": str(folder / "data"), "artifacts": str(folder / "artifacts"),
        "admin_user": "", "leader": True,
    } | changes  # fmt: skip
    file = folder / "installation.json"
    file.write_text(json.dumps(record))
    patch.setattr(installation, "RECORD", file)
    return installation.read()
