"""The smoke with other rights of colleagues than the default."""

from hosts import Lab

SERVER = "mlflow.example.com"
BY_HAND = """
sed -i 's/^default_permission = .*/default_permission = {}/' /etc/mlflow/basic_auth.ini
systemctl restart mlflow
"""


def test_the_smoke_proves_what_was_asked_for(lab: Lab) -> None:
    """A second day: colleagues may see nothing of each other's; then everything; then as before."""
    try:
        said = lab.play("scenario3.yml", mlflow_server_auth_default_permission="NO_PERMISSIONS")
        assert "A's work in a search of B's" in said and "B may, with A's work" not in said
        lab.root(SERVER, BY_HAND.format("MANAGE"))
        said = lab.play("smoke.yml")
        assert "B may, with A's work" in said and "200, 11 times" in said
    finally:
        lab.root(SERVER, BY_HAND.format("READ"))
