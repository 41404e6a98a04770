"""What to do about what a program said: the first remedy that fits, in Python and in YAML alike."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mlflow_ops.remedies import remedy

ROOT = Path(__file__).resolve().parent.parent
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
TABLE = {"(?i)no space": "Free some.", "certificate|space": "Trust it."}

# what an installer said: words that the answer must have
SAID = {
    "error: write failed: No space left on device (os error 28)": ["disk is full", "mlflow_root"],
    "Hash mismatch for `numpy==2.3.1`": ["mlflow_lock names", "mlflow_index_url"],
    "error sending request: invalid peer certificate: UnknownIssuer": ["mlflow_ca_bundle"],
    "client error (Connect): dns error: failed to lookup": ["mlflow_proxy (not set)", "PyPI"],
    "ERROR: No matching distribution found for uv": ["does not have a package"],
    "something new": ["own words are above", "mlflow-3.txt"],
}


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("tar: No space left", "Free some."),
        ("a certificate, and space", "Trust it."),
        ("something new", ""),
    ],
)
def test_the_first_that_fits(said: str, answer: str) -> None:
    assert remedy(said, TABLE) == answer


def test_what_an_installer_said_has_a_remedy(tmp_path: Path) -> None:
    """By the filter, which leaves the variables in a remedy to Ansible."""
    hosts = {
        str(number): {"ansible_failed_result": {"msg": "non-zero return code", "stderr": said}}
        for number, said in enumerate(SAID)
    }
    common = {
        "ansible_connection": "local", "ansible_python_interpreter": sys.executable,
        "mlflow_lock": "mlflow-3.txt", "mlflow_index_url": "", "mlflow_proxy": "",
        "mlflow_wheelhouse": "",
    }  # fmt: skip
    inventory = {"all": {"hosts": hosts, "vars": common}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    write = {
        "content": "{{ __mlflow_remedy }}", "dest": f"{tmp_path}/{{{{ inventory_hostname }}}}",
        "mode": "0600",
    }  # fmt: skip
    play = {
        "hosts": "all", "gather_facts": False,
        "vars_files": [f"{ROOT}/roles/mlflow/vars/main.yml"],
        "tasks": [{"ansible.builtin.copy": write}],
    }  # fmt: skip
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    done = subprocess.run(
        [ANSIBLE, "-i", tmp_path / "hosts.yml", tmp_path / "play.yml"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for number, words in enumerate(SAID.values()):
        answer = (tmp_path / str(number)).read_text()
        for word in words:
            assert word in answer
