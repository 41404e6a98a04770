"""The end: what was logged stays until the name is said, and a person's own files even then."""

from collections.abc import Callable

# Nothing in it has to do with the release of Debian.
HOSTS = "debian13"

Run = Callable[..., str]
# Whatever the installation has; the lab's cache of downloads is not asked to forget them.
FIND = "find ~/mlflow ~/.local -path '*/mlruns/*' -prune -o -print 2>/dev/null | sort"
OFFLINE = {"mlflow_uv": "/bin/false"}


def test_uninstall(ssh: Run, play: Run, variables: dict[str, str]) -> None:
    ssh(". ~/mlflow/activate && cd ~/mlflow && echo mine > train.py && python -c "
        "'import mlflow; mlflow.log_metric(\"accuracy\", 1)'")  # fmt: skip
    home = "/home/ada"
    play("uninstall.yml", **OFFLINE)
    kept = ssh(FIND).split()
    assert [path for path in kept if "mlflow" in path] == [
        f"{home}/mlflow", f"{home}/mlflow/mlruns", f"{home}/mlflow/train.py"
    ]  # fmt: skip
    assert "/0/" in ssh("find ~/mlflow/mlruns -name meta.yaml")

    play("uninstall.yml", mlflow_uninstall_data=variables["name"], **OFFLINE)
    assert "mlruns" not in ssh(FIND)
    assert ssh("cat ~/mlflow/train.py") == "mine\n"
    ssh("rm ~/mlflow/train.py")
    again = play("uninstall.yml", mlflow_uninstall_data=variables["name"], **OFFLINE)
    assert "changed=1" in again  # the project, which is empty by now
    assert "mlflow" not in ssh(FIND)
