"""The repository as a collection: what its archive holds, and what another project does with it."""

import json
import re
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from project import Project

ROOT = Path(__file__).resolve().parent.parent
PLAYBOOKS = sorted(path.stem for path in ROOT.glob("playbooks/*.yml"))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project that has the collection, and an inventory from its example."""
    made = Project(tmp_path_factory.mktemp("project"))
    (made.folder / "inventory").symlink_to(made.collection / "inventories/scenario3")
    return made


def test_the_archive_holds_what_its_users_need(project: Project) -> None:
    """Nothing that only a clone has use for; and a link leads to what came along."""
    assert {path.name for path in project.collection.iterdir()} == {
        *("roles", "playbooks", "plugins", "smoke", "src", "inventories", "docs", "meta"),
        *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE"),
        *("MANIFEST.json", "FILES.json"),
    }
    assert {path.name for path in (project.collection / "smoke").iterdir()} == {
        "mlflow_smoke", "pack.py"
    }  # fmt: skip
    links = [path for path in project.collection.rglob("*") if path.is_symlink()]
    for link in links:
        assert link.resolve().is_relative_to(project.collection)
        assert link.exists(), link
    assert not {*links} & {*(project.collection / "playbooks").iterdir()}
    examples = {path.name for path in ROOT.glob("inventories/scenario*")}
    assert {path.name for path in (project.collection / "inventories").iterdir()} == examples


@pytest.mark.parametrize("name", ["team", "production", "staging"])
def test_the_archive_has_nobodys_inventory(name: str) -> None:
    """A clone may hold one's own beside the examples, with what is known of its hosts."""
    ignored = yaml.safe_load((ROOT / "galaxy.yml").read_text())["build_ignore"]
    assert any(fnmatch(f"inventories/{name}", pattern) for pattern in ignored)


def test_every_playbook_parses_by_its_name(project: Project) -> None:
    """From a project that has no such file, with the collection's own roles."""
    names = [f"ops.mlflow.{name}" for name in PLAYBOOKS]
    said = project.run("ansible-playbook", "--syntax-check", "-i", "inventory", *names)
    assert said.count(f"playbook: {project.collection}/playbooks/") == len(PLAYBOOKS) > 15


@pytest.mark.parametrize("playbook", ["ops.mlflow.rotate", "mine.yml"])
def test_a_playbook_runs_by_its_name(project: Project, playbook: str) -> None:
    """As it is, and imported into one's own: it finds its variables, tasks and roles.

    What it refuses is answered with a command of this project, not of a clone.
    """
    mine = [{"import_playbook": "ops.mlflow.rotate"}]
    (project.folder / "mine.yml").write_text(yaml.safe_dump(mine))
    extra = {
        "rotate": "certificate", "mlflow_tls_certificate": "PEM", "mlflow_tls_key": "PEM",
        "vault_mlflow_users": {"ada": "a", "grace": "g"},
    }  # fmt: skip
    said = project.run(
        "ansible-playbook", "-i", "inventory", playbook, "-e", json.dumps(extra), code=2
    )
    assert "and run ops.mlflow.scenario3." in said


def test_a_role_runs_by_its_name(project: Project) -> None:
    """The smoke alone, in a play of one's own; it leaves the collection as it was."""
    before = {*project.collection.rglob("*")}
    smoke = {
        "role": "ops.mlflow.smoke", "smoke_scenario": "scenario1", "smoke_python": sys.executable,
        "smoke_arguments": ["--project", str(project.folder), "--without-ui"],
    }  # fmt: skip
    play = {"hosts": "localhost", "gather_facts": False, "roles": [smoke]}
    (project.folder / "prove.yml").write_text(yaml.safe_dump([play]))
    said = project.run("ansible-playbook", "prove.yml", code=2)
    assert "python after `source activate`" in said  # the program's own words
    assert {*project.collection.rglob("*")} == before


def test_roles_name_nothing_of_a_clone() -> None:
    """Neither a file beside roles/, nor a playbook by its path; and those they name are there."""
    named = set()
    for path in [*ROOT.glob("roles/**/*"), *ROOT.glob("smoke/mlflow_smoke/*")]:
        if path.suffix in {".yml", ".j2", ".py", ".md"}:
            text = path.read_text()
            assert not re.search(r"playbooks/\w|role_path[^\n]*\.\./", text), path
            named |= {*re.findall(r"playbook \| format\('(\w+)'\)", text)}
    for path in [*ROOT.glob("plugins/**/*.py"), *ROOT.glob("src/**/*.py")]:
        named |= {*re.findall(r"called % ['\"](\w+)['\"]", path.read_text())}
    assert {"backup", "scenario2"} <= named <= {*PLAYBOOKS}


def test_requirements_agree() -> None:
    """What galaxy.yml and meta/runtime.yml ask for, requirements.yml and the roles ask for too."""
    wanted = yaml.safe_load((ROOT / "galaxy.yml").read_text())["dependencies"]
    listed = yaml.safe_load((ROOT / "requirements.yml").read_text())["collections"]
    assert wanted.items() <= {one["name"]: one["version"] for one in listed}.items()
    needs = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["requires_ansible"]
    for role in ROOT.glob("roles/*/meta/main.yml"):
        oldest = yaml.safe_load(role.read_text())["galaxy_info"]["min_ansible_version"]
        assert needs == f">={oldest}.0", role
