"""Variables that roles had once: each is answered, and none of them is a variable that there is."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # as Ansible finds plugins: by the collection's own root
from plugins.plugin_utils import variables  # noqa: E402


def test_what_is_gone_is_nowhere() -> None:
    """Neither in a spec, nor in defaults, nor in what playbooks and inventories set."""
    text = "\n".join(
        path.read_text()
        for folder in ("roles", "playbooks", "inventories")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".yml", ".j2"}
    )
    assert not [name for name in variables.GONE if re.search(rf"\b{name}\b", text)]
    assert len(variables.GONE) > 20


def test_one_that_has_another_name_is_told_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(variables.GONE, "mlflow_old", "mlflow_new")
    [said] = variables.refusals({"mlflow_old": 1, "mlflow_new": 2})
    assert said.endswith("it is called mlflow_new now.")


@pytest.mark.parametrize("role", ["mlflow_backup", "mlflow_server", "mlflow_switch"])
def test_a_role_refuses_them_before_it_asks_a_host(tmp_path: Path, role: str) -> None:
    """All of them at once, each with what there is in its place."""
    play = {
        "hosts": "gone.example.com",  # nobody can reach it
        "gather_facts": False,
        "tasks": [{"ansible.builtin.include_role": {
            "name": role, "tasks_from": "preflight", "rolespec_validate": False,
        }}],
    }  # fmt: skip
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    command: list[str | Path] = [
        Path(sys.executable).with_name("ansible-playbook"), "-i", "gone.example.com,",
        tmp_path / "play.yml", "-e", "mlflow_backup_user=ada", "-e", "mlflow_switch_link=/opt/m",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "mlflow_backup_user is set" in done.stdout and "mlflow_switch_link is set" in done.stdout
    assert "mlflow_server_user" in done.stdout and "UNREACHABLE" not in done.stdout
