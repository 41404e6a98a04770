"""The doctor on a data scientist's own machine: what is broken is named, else all is well."""

from collections.abc import Callable

import pytest
from consultation import Case, Look, consult, findings, see_named, serious

# Nothing in it has to do with the release of Debian.
HOSTS = "debian13"

Run = Callable[..., str]
PROJECT = "/home/ada/mlflow"
ENVIRONMENT = "/home/ada/.local/share/mlflow/current"

CASES = {
    "a store of somebody else": Case(
        [f"{PROJECT}/mlruns belongs to root:root", "cannot be written by ada", "chown -R ada"],
        f"mkdir {PROJECT}/mlruns",
        f"rmdir {PROJECT}/mlruns",
        kind="local",
    ),
    "an experiment that only a server could keep": Case(
        ["Default (0)", "mlflow-artifacts:", "playbooks/scenario1.yml", "keeps all that is there"],
        f"""mkdir -p {PROJECT}/mlruns/0; cd {PROJECT}/mlruns/0
        printf 'artifact_location: mlflow-artifacts:/0\\nname: Default\\n' > meta.yaml
        chown -R ada:ada {PROJECT}/mlruns""",
        f"rm -r {PROJECT}/mlruns",
        kind="local",
    ),
    "variables that lack a word": Case(
        ["MLFLOW_ALLOW_FILE_STORE=true", "maintenance mode", "playbooks/scenario1.yml"],
        f"cp -a {PROJECT}/mlflow.env /run/aside; sed -i /ALLOW_FILE/d {PROJECT}/mlflow.env",
        f"cp -a /run/aside {PROJECT}/mlflow.env; rm /run/aside",
        kind="local",
    ),
    "an environment that is gone": Case(
        [f"The environment {ENVIRONMENT} does not run", "makes it anew"],
        f"mv {ENVIRONMENT} {ENVIRONMENT}.away",
        f"mv {ENVIRONMENT}.away {ENVIRONMENT}",
        kind="local",
    ),
}


@pytest.fixture(scope="module")
def look(playbook: Callable[..., list[str]]) -> Look:
    """The playbook's look at a healthy project."""
    [found] = consult(playbook("doctor.yml"))
    assert serious(found.report["findings"]) == []
    assert {"activation", "store", "experiments", "disk"} <= set(found.report["looked"])
    return found


@pytest.mark.parametrize("name", CASES)
def test_it_names(name: str, look: Look, ssh: Run) -> None:
    see_named(
        findings(lambda script: ssh(script, user="ops"), look, CASES[name], "ada"), CASES[name]
    )
