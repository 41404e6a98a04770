"""A record of what is installed, as the role mlflow_server writes it, in a folder of a test's."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mlflow_ops import installation

ROOT = Path(__file__).resolve().parents[2]
HOSTS = installation.RECORD

# Runs a program as a unit does, but with places of a test's instead of some of the host's.
PROGRAM = """
import importlib, json, pathlib, runpy, sys
package, places = sys.argv[1:3]
sys.path.insert(0, package)
for name, place in json.loads(places).items():
    module, _, constant = name.rpartition(".")
    setattr(importlib.import_module(f"mlflow_ops.{module}"), constant, pathlib.Path(place))
sys.argv[:3] = [package]
runpy.run_path(package, run_name="__main__")
"""

# A Python for modules, whichever way Ansible sends them: it reads a test's record for the host's.
PYTHON = """#!{python}
import pathlib, runpy, sys
read = pathlib.Path.read_text
pathlib.Path.read_text = lambda path, *said, **more: read(
    pathlib.Path({record!r}) if str(path) == {hosts!r} else path, *said, **more)
arguments = [word for word in sys.argv[1:] if not word.startswith("-")]
if arguments:
    sys.argv = arguments
    runpy.run_path(arguments[0], run_name="__main__")
else:
    exec(compile(sys.stdin.read(), "<module>", "exec"), {{"__name__": "__main__"}})
"""


def saved(folder: Path, **changes: Any) -> Path:
    """Write a record with some changes, and return its file."""
    record = {
        "scenario": "scenario2", "unit": "mlflow.service", "user": "root",
        "environment": str(folder / "current"), "config_dir": str(folder),
        "state_dir": str(folder / "data"), "artifacts": str(folder / "artifacts"),
        "admin_user": "", "leader": True,
    } | changes  # fmt: skip
    file = folder / "installation.json"
    file.write_text(json.dumps(record))
    return file


def written(patch: pytest.MonkeyPatch, folder: Path, **changes: Any) -> installation.Installation:
    """Write one, let programs read it instead of the host's, and return it."""
    patch.setattr(installation, "RECORD", saved(folder, **changes))
    return installation.read()


def command(places: Mapping[str, Path], name: str, *arguments: str | Path) -> list[str | Path]:
    """Return the command that runs a program with places of a test's own.

    Args:
        places: by the constant's name in the package, such as installation.RECORD.
        name: the program's.
        *arguments: its own.
    """
    mine = json.dumps({constant: str(place) for constant, place in places.items()})
    return [sys.executable, "-BEs", "-c", PROGRAM, str(ROOT / "src"), mine, name, *arguments]


def interpreter(folder: Path, record: Path) -> str:
    """Return a Python for `ansible_python_interpreter`, for which this is the host's record."""
    python = folder / "python"
    words = PYTHON.format(python=sys.executable, record=str(record), hosts=str(HOSTS))
    python.write_text(words)
    python.chmod(0o755)
    return str(python)
