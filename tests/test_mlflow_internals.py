"""What of MLflow's own the programs use: it is in each version, and in one file here.

The environments are what users get, made from the locks, and kept in .cache.
"""

from __future__ import annotations

import ast
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import mlflow_names
import pytest
import yaml
from mlflow_environments import environment
from mlflow_names import known
from versions import ROOT, SHIPPED

from mlflow_ops import mlflow_internals as internals

SOURCE = ROOT / "src/mlflow_ops"


@functools.cache
def answers(version: str) -> dict[str, str]:
    """Return what a version says of each name: what is wrong with it, or ''."""
    # Without what forbids it to keep what it has compiled, which is most of the work.
    mine = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "MLFLOW"))
    }
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [environment(version), "-W", "ignore", mlflow_names.__file__], cwd=folder,
            env={**mine, "PYTHONPATH": f"{ROOT}/src"}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return dict(json.loads(Path(folder, "answer.json").read_text()))


@pytest.mark.parametrize("name", [*internals.SCHEMAS, *known()])
@pytest.mark.parametrize("version", SHIPPED)
def test_every_version_has_every_name(version: str, name: str) -> None:
    """It is where it is looked for, and called, read or replaced as it is here."""
    purpose = getattr(known().get(name), "purpose", "")
    assert answers(version)[name] == "", purpose


# ... and nowhere else -----------------------------------------------------------------------------

# What MLflow documents. All else below `mlflow` is its own business.
PUBLIC = {
    "mlflow",
    "mlflow.artifacts",
    "mlflow.entities",
    "mlflow.exceptions",
    "mlflow.pyfunc",
}
MODULE = re.compile(
    r"\bmlflow\.(?:assistant|cli|protos|server|store|tracking|utils|version|pyfunc\.scoring_server)\b"
)
ATTRIBUTES = {
    part
    for name in internals.NAMES
    for part in re.split(r"[:.]", name.where)
    if part.startswith("_")
}
TABLES = sorted({statement.table for statement in internals.STATEMENTS})
SQL = re.compile(rf'\b(?:FROM|INTO|UPDATE|JOIN) "?(?:{"|".join(TABLES)})\b')
VALUES = {name.value for name in internals.NAMES if name.value}


def private(tree: ast.AST) -> Iterator[str]:
    """Yield what a program names of MLflow's own."""
    texts = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if of_mlflow(a.name) and a.name not in PUBLIC)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            if of_mlflow(node.module) and node.module not in PUBLIC:
                yield node.module
            if of_mlflow(node.module):
                yield from (a.name for a in node.names if a.name.startswith("_"))
                whole = (f"{node.module}.{a.name}" for a in node.names)
                yield from (found[0] for name in whole if (found := MODULE.match(name)))
        elif isinstance(node, ast.Attribute):
            if node.attr in ATTRIBUTES:
                yield node.attr
            elif found := MODULE.match(ast.unparse(node)):
                yield found[0]
        elif (
            isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts
        ):
            if node.value in ATTRIBUTES | VALUES:
                yield node.value
            yield from (found[0] for find in (MODULE, SQL) if (found := find.search(node.value)))


def of_mlflow(module: str) -> bool:
    """Tell whether a module is of MLflow's."""
    return module.partition(".")[0] == "mlflow"


@pytest.mark.parametrize(
    "file", [*SOURCE.rglob("*.py")], ids=lambda file: str(file.relative_to(SOURCE))
)
def test_no_other_file_names_what_is_mlflows_own(file: Path) -> None:
    found = list(private(ast.parse(file.read_text())))
    assert bool(found) == (file.name == "mlflow_internals.py"), found


@pytest.mark.parametrize(
    "program",
    [
        "import mlflow.server",
        "import mlflow.store.db.utils as utils",
        "from mlflow.utils.crypto import KEKManager",
        "from mlflow import cli",
        "from mlflow.pyfunc import scoring_server",
        "from mlflow.entities import _x",
        "import mlflow\nmlflow.server.app",
        "store._hard_delete_run(1)",
        "getattr(store, '_hard_delete_run')(1)",
        "importlib.import_module('mlflow.server.auth')",
        "os.environ['_MLFLOW_STATIC_PREFIX']",
        "run('SELECT name FROM experiments WHERE 1')",
        "run('DELETE FROM \"experiment_permissions\"')",
        "tag = 'mlflow.artifactLocation'",
    ],
)
def test_how_one_could_name_it(program: str) -> None:
    assert list(private(ast.parse(program)))


def test_what_is_documented_may_be_named_anywhere() -> None:
    program = (
        "from mlflow.entities import Run\nimport mlflow\nmlflow.MlflowClient()\n'mlflow.service'"
    )
    assert not list(private(ast.parse(program)))


def test_it_is_imported_without_mlflow() -> None:
    program = "import sys, mlflow_ops.mlflow_internals as _; print(*{'mlflow'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": f"{ROOT}/src"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "\n"
    written = ast.parse((SOURCE / "mlflow_internals.py").read_text())
    imports = [node for node in ast.walk(written) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not [name for name in map(ast.unparse, imports) if " mlflow" in name]


def test_what_roles_name_is_in_the_list() -> None:
    """In templates it stands as it is."""
    ini = (ROOT / "roles/mlflow_server/templates/basic_auth.ini.j2").read_text()
    assert f"\nauthorization_function = {internals.AUTHENTICATE.where}\n" in ini
    variables = yaml.safe_load((ROOT / "roles/mlflow_client/vars/main.yml").read_text())
    assert internals.ARTIFACT_ROOT.value in json.dumps(variables)
    for path in ROOT.glob("roles/**/*"):
        if path.is_file() and path.suffix in (".yml", ".j2", ".py"):
            found = set(
                re.findall(r"_MLFLOW_(?!OLD_)[A-Z_]+|mlflow\.server\.[\w.:]+", path.read_text())
            )
            found -= {name for name in found if "MLFLOW" in name and f"_{name}" in path.read_text()}
            assert found <= {internals.ARTIFACT_ROOT.value, internals.AUTHENTICATE.where}, path
