"""The versions of MLflow that are shipped: those that have a lock. Nothing else lists them."""

from pathlib import Path

import yaml
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles/mlflow"
LOCKS = {
    path.stem.removeprefix("mlflow-"): path
    for path in sorted(
        ROLE.glob("files/locks/mlflow-*.txt"),
        key=lambda path: Version(path.stem.removeprefix("mlflow-")),
        reverse=True,
    )
}
# The newest first.
SHIPPED = list(LOCKS)
# Those that the guard is for, and that a server is set up with; and the last without it.
GUARDED = [version for version in SHIPPED if Version(version).major > 2]
UNGUARDED = next(version for version in SHIPPED if Version(version).major == 2)
# What the playbooks install unless they are told another.
DEFAULT = str(yaml.safe_load((ROLE / "defaults/main.yml").read_text())["mlflow_version"])
