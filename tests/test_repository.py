"""What holds for the repository as a whole."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import house_counts
import pytest
import yaml
from versions import DEFAULT, GUARDED, LOCKS, SHIPPED, UNGUARDED

ROOT = Path(__file__).resolve().parent.parent
PLAYBOOKS = sorted(ROOT.glob("playbooks/*.yml"))


def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a command and keep what it says."""
    return subprocess.run(command, cwd=cwd, text=True, capture_output=True, check=False)


@pytest.mark.parametrize("directory", [".", "playbooks"])
def test_playbooks_parse_from_both_places(directory: str) -> None:
    """`ansible-playbook` finds roles and inventories from the root and from playbooks/."""
    there = ROOT / directory
    shown = [os.path.relpath(playbook, there) for playbook in PLAYBOOKS]
    result = run("ansible-playbook", "--syntax-check", *shown, cwd=there)
    assert result.returncode == 0, result.stderr
    assert "Unable to parse" not in result.stderr
    assert result.stdout.count("playbook: ") == len(PLAYBOOKS) > 15


def test_inventories_keep_apart() -> None:
    """Each inventory has the one group of its scenario, so that all can be read together."""
    inventories = sorted(path.parent for path in ROOT.glob("inventories/*/hosts.yml"))
    assert inventories
    for inventory in inventories:
        group = inventory.name.partition("_")[0]
        assert list(yaml.safe_load((inventory / "hosts.yml").read_text())) == [group]
        for variables in inventory.glob("group_vars/*"):
            assert variables.stem.startswith(group)


def test_generated_documents_are_current() -> None:
    """The variable tables say what the specs say."""
    result = run(sys.executable, "docs/generate.py", "--check")
    assert result.returncode == 0, result.stdout


def test_locks_have_hashes_and_no_addresses() -> None:
    """Every locked requirement has a hash, and no lock says where packages come from."""
    locks = [ROOT / "requirements.txt", *ROOT.glob("roles/*/files/**/*.txt")]
    assert len(locks) >= 4
    for lock in locks:
        text = lock.read_text()
        assert "://" not in text
        assert "--index-url" not in text
        for requirement in re.split(r"\n(?=\S)", re.sub(r"(?m)^#.*\n", "", text)):
            assert re.search(r"==\S+", requirement), f"{lock.name}: {requirement[:60]}"
            assert "--hash=sha256:" in requirement, f"{lock.name}: {requirement[:60]}"


def test_hosts_agree_on_every_version() -> None:
    """Whatever their Pythons: what is logged on one is loaded by another."""
    for lock in LOCKS.values():
        names = re.findall(r"(?m)^([A-Za-z0-9._-]+)==", lock.read_text())
        assert {name for name in names if names.count(name) > 1} == set(), lock.name
        assert {"mlflow", "numpy", "pandas", "scikit-learn", "scipy"} <= {*names}


def test_the_three_mlflow_packages_carry_one_version() -> None:
    """A lock's name, mlflow and its twins agree."""
    for version, lock in LOCKS.items():
        pins = re.findall(r"(?m)^(mlflow(?:-skinny|-tracing)?)==(\S+)", lock.read_text())
        assert ("mlflow", version) in pins
        assert {pin for _, pin in pins} == {version}


def test_the_newest_version_is_the_one_that_is_installed() -> None:
    assert SHIPPED[0] == DEFAULT
    assert {path.stem for path in ROOT.glob("roles/mlflow/files/locks/*.in")} == {
        f"mlflow-{version}" for version in SHIPPED
    }
    makefile = run("make", "--dry-run", "--no-print-directory", "audited-lock").stdout
    assert makefile.split()[-1] == DEFAULT


def either(versions: list[str]) -> str:
    """Return some versions as a person lists them."""
    return f"{', '.join(versions[:-1])} or {versions[-1]}"


def test_inventories_and_specs_tell_of_the_versions_that_are_shipped() -> None:
    for inventory in ROOT.glob("inventories/*/group_vars/**/*.yml"):
        text = inventory.read_text()
        if (said := yaml.safe_load(text)) and "mlflow_version" in said:
            assert str(said["mlflow_version"]) == DEFAULT, inventory
            alike = SHIPPED if "scenario1" in inventory.parts else GUARDED
            assert f"# {either(alike)}" in text or "scenario3_aws" in inventory.parts, inventory
    spec = (ROOT / "roles/mlflow/meta/argument_specs.yml").read_text()
    assert f"Those that are shipped - {', '.join(SHIPPED)} - need no" in spec
    columns = re.findall(
        r"(?m)^\| advisory \| what \| (.*) \|$", (ROOT / "SECURITY.md").read_text()
    )
    assert columns == [" | ".join(reversed(SHIPPED))] * 3
    upgraded = yaml.safe_load((ROOT / "molecule/upgrade/molecule.yml").read_text())
    assert (
        f"--extra-vars=mlflow_version={UNGUARDED}"
        in (upgraded["ansible"]["executor"]["args"]["ansible_playbook"])
    )


# Somebody's own, in examples.
OWN = {"3.18.1"}


def test_no_other_version_of_mlflow_is_written_anywhere() -> None:
    """What is shown, measured and tested are versions that are shipped; so a new one is found."""
    places = ["bench/**/*", "molecule/**/*", "inventories/**/*", "docs/*.md", "roles/*/README.md"]
    told = [path for place in (*places, "README.md", "Makefile") for path in ROOT.glob(place)]
    seen: set[str] = set()
    for path in told:
        if path.suffix in (".py", ".md", ".yml", ".sh") or path.name == "Makefile":
            versions = set(re.findall(r"(?<![\w.])[23]\.\d+\.\d+(?![\w.]\d)", path.read_text()))
            assert versions <= {*SHIPPED, *OWN}, path
            seen |= versions
    assert seen >= {DEFAULT, UNGUARDED}
    # What playbooks end with.
    for document, words in (
        ("README.md", "for ada"),
        ("docs/operations.md", "serves the restored"),
    ):
        assert f"MLflow {DEFAULT} {words}" in (ROOT / document).read_text()


# What starts a Python, in whatever notation: its name and the word after it.
STARTED = re.compile(
    r"(?<!--python )(?<!-)(?:\bpython3?|\b\w+_python|\bsys\.executable) "
    r"(-(?!-)\S*|\S*\.py\b|__\w*(?:program|load|directory)\b|\$0)"
)
ISOLATED = re.compile(r"-(?=\w*I|\w*E\w*s)[IEsuB]+")
# A person's own, with her own modules; and what is only looked for.
OTHERS = {"train.py", "-m ipykernel_launcher"}


def programs() -> Iterator[tuple[Path, str]]:
    """Yield the files that say which programs are started on hosts, and what they say, in words."""
    for path in (
        path
        for name in ("roles", "playbooks", "plugins", "src")
        for path in ROOT.glob(f"{name}/**/*")
    ):
        if path.suffix in (".yml", ".j2", ".py") and "meta" not in path.parts:
            text = re.sub(r"(?m)^\s*#(?!!).*$", "", path.read_text())
            text = re.sub(r"\{\{\s*|\s*\}\}", "", text)
            yield path, " ".join(re.sub(r"['\"\[\],()]|(?m:^\s*- )", " ", text).split())


def test_no_python_takes_modules_from_where_others_write() -> None:
    """With -I, or -Es for a program that has modules beside it: not from the present directory."""
    seen = 0
    for path, text in programs():
        for found in STARTED.finditer(text):
            words = text[found.start() : found.end() + 20]
            if not any(word in words for word in OTHERS):
                seen += 1
                assert ISOLATED.fullmatch(found[1]), f"{path.relative_to(ROOT)}: {words!r}"
        if path.suffix == ".py" and text.startswith("#!"):
            assert text.startswith("#!/usr/bin/python3 -Es "), path.relative_to(ROOT)
    assert seen > 20


def test_make_alone_prints_the_targets() -> None:
    """`make` tells a newcomer what there is, and each target it prints exists."""
    shown = run("make").stdout
    targets = re.findall(r"(?m)^  make ([\w-]+)", shown)
    assert {"scenario1", "scenario2", "scenario3", "test", "lint", "unit", "clean"} <= set(targets)
    assert run("make", "--dry-run", "--no-print-directory", *targets).returncode == 0


def test_the_readme_has_every_playbook() -> None:
    """But for the one that others import."""
    table = (ROOT / "README.md").read_text().partition("\n## Playbooks")[2].partition("\n## ")[0]
    assert {*re.findall(r"(\w+\.yml)`", table)} == {one.name for one in PLAYBOOKS} - {"switch.yml"}


def test_links_in_the_documents_lead_somewhere() -> None:
    """Relative links and pictures of the documents exist."""
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("roles/*/README.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.mark.parametrize("name", house_counts.figures())
def test_the_shape_stays(name: str) -> None:
    """No programs among a role's files, few commands, no failures that are passed over."""
    value, limit = house_counts.figures()[name]
    assert value <= limit


def rescued(node: Any) -> Iterator[dict[str, Any]]:
    """Yield the tasks of each rescue below a YAML node."""
    for one in node if isinstance(node, list) else []:
        yield from one.get("rescue", [])
        for key in ("tasks", "pre_tasks", "post_tasks", "handlers", "block", "rescue", "always"):
            yield from rescued(one.get(key))


def test_who_is_rescued_need_not_have_failed() -> None:
    """With any_errors_fatal one host's failure has all of them go back, and names no task there."""
    # The doctor's play goes on with the other hosts.
    files = {*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("playbooks/**/*.yml")}
    files -= {*ROOT.glob("roles/mlflow_doctor/tasks/*.yml")}
    tasks = [task for file in files for task in rescued(yaml.safe_load(file.read_text()))]
    naming = [task for task in tasks if "ansible_failed_" in str(task)]
    assert len(naming) >= 5
    assert not [
        task["name"]
        for task in naming
        if task.get("when") != "ansible_failed_task is defined" and "| default(" not in str(task)
    ]
