"""What roles and playbooks tell the modules of this collection, and what these take."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
MODULES = {f"ops.mlflow.{path.stem}": path for path in ROOT.glob("plugins/modules/*.py")}
FILES = [
    path
    for place in ("roles/*/tasks", "roles/*/handlers", "playbooks", "playbooks/tasks")
    for path in sorted(ROOT.glob(f"{place}/*.yml"))
]


def options(module: Path) -> set[str]:
    """Return the options that a module is documented with."""
    [told] = [
        node.value for node in ast.parse(module.read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DOCUMENTATION"
    ]  # fmt: skip
    return {*(yaml.safe_load(ast.literal_eval(told)).get("options") or {})}


def calls(node: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield which module is told what, where that stands in the task itself."""
    if isinstance(node, list):
        for item in node:
            yield from calls(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in MODULES and isinstance(value, dict):
                yield key, value
            else:
                yield from calls(value)


def test_modules_are_told_what_they_take() -> None:
    """Not what an earlier one took: Ansible would say so on a host, in the middle of a play."""
    taken = {name: options(path) for name, path in MODULES.items()}
    seen = 0
    for path in FILES:
        for name, told in calls(yaml.safe_load(path.read_text())):
            seen += 1
            assert {*told} <= taken[name], f"{path.relative_to(ROOT)}: {name}"
    assert seen > 50
