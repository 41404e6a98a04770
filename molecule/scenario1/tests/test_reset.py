"""Starting afresh: reset.yml names what it would delete, and deletes that and nothing else."""

from collections.abc import Callable

import pytest

# Nothing in it has to do with the release of Debian.
HOSTS = "debian13"

Run = Callable[..., str]


def test_reset_waits_for_the_word(
    ssh: Run, play: Run, refused: Run, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(lambda: ssh("rm -rf ~/mlflow/mlruns ~/mlflow/train.py"))
    ssh(". ~/mlflow/activate && cd ~/mlflow && echo mine > train.py && python -c "
        "'import mlflow; mlflow.log_metric(\"accuracy\", 1)'")  # fmt: skip
    before = ssh("find ~/mlflow | sort")
    assert "/mlruns/0/" in before

    error = refused("reset.yml")
    for word in (
        "/home/ada/mlflow/mlruns",
        "mlflow_client_reset_confirm=true",
        "Nothing was changed",
    ):
        assert word in error
    assert ssh("find ~/mlflow | sort") == before

    play("reset.yml", mlflow_client_reset_confirm="true")
    kept = ssh("find ~/mlflow | sort")
    assert kept.split() == [path for path in before.split() if "/mlruns" not in path]
    assert "changed=0" in play("reset.yml", mlflow_client_reset_confirm="true")
