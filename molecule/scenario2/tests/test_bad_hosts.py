"""What a host refuses is answered with one clear error, and the service goes on as it was."""

from collections.abc import Callable, Iterator

import pytest

# Nothing in it has to do with the release of Debian.
HOSTS = "debian12-server"

Run = Callable[..., str]
PLACE = "/mnt/other"  # of a second server's data, whose playbook is refused


@pytest.fixture
def as_root(ssh: Run) -> Run:
    """Run a command line on the host as root."""
    return lambda command: ssh(f"sudo sh -euc '{command}'", user="ops")


@pytest.fixture
def refuse(as_root: Run, refused: Run, variables: dict[str, str]) -> Iterator[Run]:
    """Run scenario 2, see it fail, and return the error in one line.

    Where the data would be left behind, that is meant.
    """
    meant = {"mlflow_server_move_confirm": variables["name"]}

    def state() -> str:
        return as_root(
            'systemctl show --property InvocationID mlflow; stat -c "%n %Y %i" '
            "/etc/mlflow/* /etc/systemd/system/mlflow.service /opt/mlflow/current"
        )

    before = state()
    smokeless = ("scenario2.yml", "--skip-tags", "smoke")
    yield lambda **extra: refused(*smokeless, user="ops", **{**meant, **extra})
    assert state() == before
    as_root(f"mountpoint -q {PLACE} && umount {PLACE}; rm -rf {PLACE} /mnt/a")


def test_a_port_that_is_taken(ssh: Run, refuse: Run) -> None:
    start = "python3 -m http.server 5010 --bind 127.0.0.1 >/dev/null 2>&1 & echo $!; sleep 1"
    process = ssh(start, user="ops").strip()
    try:
        error = refuse(mlflow_server_port="5010")
    finally:
        ssh(f"kill {process}", user="ops")
    for word in ("5010 is taken on host", f"process {process} (python3)", "mlflow_server_port"):
        assert word in error
    assert "Nothing was changed" in error


@pytest.mark.parametrize(
    "prepare, words",
    [
        ("echo nonsense, and some more of it > {0}/mlflow.db", "is not an SQLite database"),
        ("chown ops: {0}", "belongs to ops"),
        ("touch {0}/mlflow.db; chown ops: {0}/mlflow.db", "could not write it: chown -h mlflow:"),
    ],
)
def test_a_state_that_is_no_server_s(as_root: Run, refuse: Run, prepare: str, words: str) -> None:
    as_root(f"install -d -o mlflow -g mlflow {PLACE}; {prepare.format(PLACE)}")
    error = refuse(mlflow_server_state_dir=PLACE)
    assert words in error
    assert PLACE in error
    assert "Nothing was changed" in error


@pytest.mark.parametrize(
    "full, words",
    [
        # Too small from the start; and room, but not for a single file more.
        ("size=50m", ["mlflow_server_state_dir", "52 MB free", "Nothing was changed"]),
        ("size=500m,nr_inodes=1", ["could not create its schema", "Run the playbook again"]),
    ],
)
def test_a_full_disk(as_root: Run, refuse: Run, full: str, words: list[str]) -> None:
    as_root(f"install -d {PLACE}; mount -t tmpfs -o {full} tmpfs {PLACE}; chown mlflow: {PLACE}")
    error = refuse(mlflow_server_state_dir=PLACE, mlflow_server_artifacts_destination="/mnt/a")
    for word in words:
        assert word in error
    assert as_root(f"find {PLACE} -type f") == ""


def test_a_place_that_leads_away_from_the_data(as_root: Run, refuse: Run) -> None:
    """Both places are said, what is in them, and the way of either."""
    ask = "curl -sS --fail-with-body http://localhost:5000/api/2.0/mlflow/experiments"
    made = as_root(ask + '/create --json "{\\"name\\": \\"left-behind\\"}"')
    number = "".join(filter(str.isdigit, made))
    as_root(ask + f'/delete --json "{{\\"experiment_id\\": \\"{number}\\"}}"')
    error = refuse(mlflow_server_state_dir=PLACE, mlflow_server_move_confirm="")
    for word in (
        "sqlite:////var/lib/mlflow/mlflow.db (experiments ", f"{PLACE}/mlflow.db (not there)",
        "by mlflow_server_state_dir", "systemctl stop mlflow", "-e mlflow_server_move_confirm=",
        "Nothing was changed",
    ):  # fmt: skip
        assert word in error


def test_an_unknown_version(refuse: Run) -> None:
    error = refuse(mlflow_version="9.9.9")
    for word in ("no lock for MLflow 9.9.9", "mlflow_version", "Nothing was changed"):
        assert word in error
