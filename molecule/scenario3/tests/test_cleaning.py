"""What was deleted long ago goes for good, in PostgreSQL and S3 as in SQLite and a directory."""

from deletions import check
from exposure import exposed
from hosts import Lab

ADA, SERVER = "login1.example.com", "mlflow.example.com"


def test_what_was_deleted_long_ago_goes_and_nothing_else(lab: Lab) -> None:
    lab.play("clean.yml", mlflow_cleaning_older_than="30d")
    try:
        check(lambda program: lab.python(ADA, "ada", program), lambda said: lab.root(SERVER, said))
        assert exposed(lambda script: lab.root(SERVER, script), "mlflow-gc.service") == {}
    finally:
        lab.play("clean.yml")
