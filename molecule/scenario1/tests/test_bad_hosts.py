"""What a host refuses is answered with one clear error, and leaves nothing half-made."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Nothing in it has to do with the release of Debian.
HOSTS = "debian12"

Run = Callable[..., str]
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def refuse(ssh: Run, refused: Run) -> Iterator[Run]:
    """Run scenario 1 for grace, see it fail, and return the error in one line."""
    yield lambda **extra: refused("scenario1.yml", "--skip-tags", "smoke", user="grace", **extra)
    ssh("test ! -e ~/mlflow", user="grace")  # no project without an environment
    ssh("rm -rf ~/.local ~/.ansible ~/.cache", user="grace")


def test_directory_of_somebody_else(refuse: Run) -> None:
    error = refuse(mlflow_root="/opt/mlflow")
    for word in ("mlflow_root (/opt/mlflow)", "grace", "/opt refuses", "Nothing was changed"):
        assert word in error


def test_no_venv_module(ssh: Run, refuse: Run) -> None:
    # As Debian is without its package python3-venv.
    ssh("cd /usr/lib/python3.1?; sudo mv ensurepip ensurepip.away", user="ops")
    try:
        error = refuse()
    finally:
        ssh("cd /usr/lib/python3.1?; sudo mv ensurepip.away ensurepip", user="ops")
    for word in ("apt install python3-venv", "mlflow_uv", "Nothing was changed"):
        assert word in error


@pytest.mark.parametrize(
    "full, words",
    [
        # Too small from the start, and a file system that fills up on the way (with inodes).
        ("size=50m", ["52 MB free and needs 2000", "mlflow_root", "Nothing was changed"]),
        ("size=2500m,nr_inodes=4000", ["disk is full", "mlflow_root", "environment was removed"]),
    ],
)
def test_full_disk(ssh: Run, refuse: Run, full: str, words: list[str]) -> None:
    ssh(f"sudo install -d /mnt/full && sudo mount -t tmpfs -o mode=1777,{full} tmpfs /mnt/full",
        user="ops")  # fmt: skip
    try:
        error = refuse(mlflow_root="/mnt/full/mlflow")
        assert ssh("ls -A /mnt/full/mlflow 2>/dev/null || true", user="grace") == ""
    finally:
        ssh("sudo umount /mnt/full && sudo rmdir /mnt/full", user="ops")
    for word in words:
        assert word in error


def test_index_that_does_not_answer(ssh: Run, refuse: Run) -> None:
    error = refuse(mlflow_index_url="http://127.0.0.1:9/simple")
    for word in ("cannot be reached", "mlflow_index_url (http://127.0.0.1:9/simple)", "removed"):
        assert word in error
    assert ssh("ls -A ~/.local/share/mlflow", user="grace") == ""


@pytest.mark.parametrize(
    "damage, words", [(b"PK", "is damaged. Delete it there"), (None, "lacks a package")]
)
def test_bad_wheelhouse(
    ssh: Run, refuse: Run, tmp_path: Path, damage: bytes | None, words: str
) -> None:
    # uv itself whole or broken; nothing else is needed to see what is said.
    lock = ROOT / "roles/mlflow/files/uv.txt"
    subprocess.run(
        ["pip", "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary=:all:",
         "--dest", tmp_path, "--requirement", lock],
        check=True,
    )  # fmt: skip
    [wheel] = tmp_path.glob("uv-*.whl")
    if damage:
        wheel.write_bytes(damage)
    error = refuse(mlflow_wheelhouse=str(tmp_path))
    for word in ("mlflow_wheelhouse", words, "make wheelhouse", "removed"):
        assert word in error
    assert ssh("ls -A ~/.local/share/mlflow", user="grace") == ""
