"""Each role's argument spec and its defaults say the same, for the roles of today and tomorrow."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
ROLES = sorted(path.parent.parent for path in ROOT.glob("roles/*/tasks/main.yml"))


def entries(role: Path) -> dict[str, Any]:
    """Return a role's entry points."""
    specs: dict[str, Any] = yaml.safe_load((role / "meta/argument_specs.yml").read_text())
    return dict(specs["argument_specs"])


def options(role: Path) -> dict[str, Any]:
    """Return the options of all entry points of a role, and hold equal names to equal words."""
    merged: dict[str, Any] = {}
    for entry in entries(role).values():
        for name, option in entry.get("options", {}).items():
            assert merged.setdefault(name, option) == option, f"{name} has two descriptions"
    return merged


def defaults(role: Path) -> dict[str, Any]:
    """Return a role's defaults, none if it has no such file."""
    path = role / "defaults/main.yml"
    return dict(yaml.safe_load(path.read_text()) or {}) if path.is_file() else {}


def test_there_are_roles() -> None:
    """The tests below look at something."""
    assert ROLES


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_defaults_are_those_of_the_spec(role: Path) -> None:
    """Defaults and spec hold the same keys and values; what is required has no default."""
    specified = {name: spec["default"] for name, spec in options(role).items() if "default" in spec}
    assert defaults(role) == specified
    for name, spec in options(role).items():
        assert spec.get("required", False) != ("default" in spec), (
            f"{name} is either required or has a default"
        )


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_options_are_described(role: Path) -> None:
    """Each variable carries its role's name, a type and a description."""
    for name, spec in options(role).items():
        assert name == role.name or name.startswith(f"{role.name}_")
        assert spec["type"] in {"str", "bool", "int", "float", "path", "list", "dict"}
        assert len("".join(spec["description"])) > 10, name


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_entry_points_exist(role: Path) -> None:
    """Each entry point of the spec is a task file."""
    for entry in entries(role):
        assert (role / f"tasks/{entry}.yml").is_file()


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_roles_do_not_know_one_another(role: Path) -> None:
    """No expression of a role uses a variable of another: what it needs comes through its own."""
    foreign = {name for other in ROLES if other != role for name in options(other)} - {
        *options(role)
    }
    for path in [*role.rglob("*.yml"), *role.rglob("*.j2")]:
        for expression in re.findall(r"(?s)\{[{%].*?[}%]\}|when: [^\n]*", path.read_text()):
            code = re.sub(r"'[^']*'|\"[^\"]*\"", "", expression)
            used = set(re.findall(r"\w+", code)) & foreign
            assert not used, f"{path.relative_to(ROOT)} uses {used} of another role"


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_switches_can_be_given_on_the_command_line(role: Path) -> None:
    """`-e switch=false` is text, and true wherever an expression forgets to say `| bool`."""
    switches = [name for name, spec in options(role).items() if spec["type"] == "bool"]
    for path in [*role.glob("tasks/*.yml"), *role.glob("vars/*.yml"), *role.glob("templates/*")]:
        for number, line in enumerate(path.read_text().splitlines(), 1):
            for switch in switches:
                if re.search(rf"\b(if|when:|not|and|or|that:) {switch}\b(?! \| bool)", line):
                    pytest.fail(f"{path.relative_to(ROOT)}:{number}: {switch} | bool")
