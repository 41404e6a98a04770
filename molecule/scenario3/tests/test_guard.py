"""What one user gains over another, and over the server: nothing, asked through the proxy."""

import pytest
from guarded import neighbour, routes
from hosts import Lab

SERVER, LOGIN = "mlflow.example.com", "login2.example.com"


def test_a_neighbour_gains_nothing(lab: Lab) -> None:
    said = neighbour(lab, SERVER, LOGIN, gateway=True)
    assert (said["gained"], said["refused"]) == ([], [])
    assert said["denied by"] in ("DENY", "NO_PERMISSIONS")


def test_every_route_is_in_the_table(lab: Lab) -> None:
    """A version with a new route fails here until somebody decides; see CONTRIBUTING.md."""
    said = routes(lab, SERVER)
    assert (said["unknown"], said["gone"]) == ([], [])
    assert said["routes"] > 400


@pytest.mark.parametrize(
    "path",
    [
        "ajax-api/3.0/mlflow/assistant/config",
        "ajax-api/3.0/mlflow//assistant/config",
        "ajax-api/3.0/mlflow/%61ssistant/config",
        "ajax-api/3.0/x/../mlflow/assistant/config",
        "Ajax-Api/3.0/mlflow/Assistant/config",
    ],
)
def test_the_proxy_refuses_the_assistant_by_itself(lab: Lab, path: str) -> None:
    curl = f"curl -sk --path-as-is -w ' %{{http_code}}' https://{SERVER}/{path}"
    said = lab.ssh(LOGIN, curl, "grace")
    assert "This server has no Assistant." in said
    assert said.endswith("403")


def test_what_mlflow_has_no_rule_for_mlflow_refuses_too(lab: Lab) -> None:
    running = lab.root(
        SERVER, "tr '\\0' '\\n' < /proc/$(systemctl show -P MainPID mlflow)/environ"
    ).splitlines()
    assert "MLFLOW_BASIC_AUTH_FAIL_CLOSED=true" in running
