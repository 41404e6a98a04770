"""What ada has after the playbook, before she does anything herself."""

import re
from collections.abc import Callable

from versions import DEFAULT

Run = Callable[..., str]


def test_current_is_a_versioned_environment(ssh: Run) -> None:
    target = ssh("readlink ~/.local/share/mlflow/current").strip()
    assert re.fullmatch(rf"{re.escape(DEFAULT)}-[0-9a-f]{{12}}", target)
    assert ssh("~/.local/share/mlflow/current/bin/mlflow --version").split()[-1] == DEFAULT


def test_no_store_before_the_first_use(ssh: Run) -> None:
    assert "mlruns" not in ssh("ls -A ~/mlflow")
    assert "mlflow.db" not in ssh("ls -A ~/mlflow")


def test_nothing_of_hers_is_outside_her_home(ssh: Run) -> None:
    # She has no way to become another user, so that whatever the playbook made belongs to her.
    assert ssh("sudo -n true 2>&1 || echo refused").endswith("refused\n")
    found = ssh(
        "find / -path /proc -prune -o -path /sys -prune -o -path /home/ada -prune "
        "-o -path /var/cache/lab -prune -o -user ada -print 2>/dev/null || true"
    ).splitlines()
    assert [path for path in found if not path.startswith(("/dev/pts", "/run/user"))] == []
