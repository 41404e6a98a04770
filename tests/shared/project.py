"""A project of somebody else: it has the collection from its archive, and nothing of the clone."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class Project:
    """A folder with the collection, as the README says, beside the ansible package.

    Attributes:
        folder: the project's.
        collection: what was installed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.collection = folder / "collections/ansible_collections/ops/mlflow"
        advice = re.search(r"(?s)```ini\n(.*?)```", (ROOT / "README.md").read_text())
        assert advice
        (folder / "ansible.cfg").write_text(advice[1])
        self.run("ansible-galaxy", "collection", "build", ROOT, "--output-path", "built")
        [archive] = folder.glob("built/*.tar.gz")
        self.run("ansible-galaxy", "collection", "install", "--offline", "--no-deps", archive)

    def run(self, program: str, *arguments: Any, code: int = 0) -> str:
        """Run one of Ansible's programs there, see its exit code, and return what it says."""
        mine = {name: value for name, value in os.environ.items() if "ANSIBLE" not in name}
        done = subprocess.run(
            [Path(sys.executable).with_name(program), *arguments], cwd=self.folder,
            env={**mine, "ANSIBLE_NOCOLOR": "1"}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout
