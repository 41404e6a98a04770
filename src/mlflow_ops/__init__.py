"""What runs on hosts: what systemd or a person starts there, and what modules share.

A module of Ansible finds it in module_utils; a host has it in a directory of /usr/local/lib/mlflow,
whose name is the digest of its content, and runs it as `python3 -Es DIRECTORY PROGRAM`.
Python 3.11 or later runs it; what asks other Pythons says so itself.
"""

from __future__ import annotations

from pathlib import Path

# What Python is given to run: the directory that holds this package and __main__.py.
ROOT = Path(__file__).resolve().parent.parent
# Where the newest is on a host, for what begins: units, people, and modules, which are sent.
INSTALLED = Path("/usr/local/lib/mlflow/current")


def program(python: str | Path, name: str, *arguments: str | Path) -> list[str]:
    """Return the command that runs a program of this very package, whatever is installed meanwhile.

    Args:
        python: the Python that runs it.
        name: the program's, as in __main__.py.
        *arguments: its own.
    """
    return [str(python), "-Es", str(ROOT), name, *map(str, arguments)]
