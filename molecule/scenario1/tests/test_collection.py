"""Another project, with the collection from its archive, comes to the very same installation."""

from collections.abc import Callable
from pathlib import Path

from project import Project

# Nothing in it has to do with the release of Debian.
HOSTS = "debian13"


def test_the_collection_finds_nothing_to_change(
    playbook: Callable[..., list[str]], tmp_path: Path
) -> None:
    _, _, *arguments = playbook("scenario1.yml")
    said = Project(tmp_path).run("ansible-playbook", "ops.mlflow.scenario1", *arguments)
    assert "[ops.mlflow.mlflow_client : " in said
    assert "changed=0" in said
    assert "17 checks in" in said
    assert "a team? ops.mlflow.scenario2; start afresh: ops.mlflow.reset" in said
