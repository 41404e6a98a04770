"""What was deleted long ago goes for good, in PostgreSQL and S3 as in SQLite and a directory."""

from deletions import check
from hosts import Lab

ADA, SERVER = "login1.example.com", "mlflow.example.com"


def test_what_was_deleted_long_ago_goes_and_nothing_else(lab: Lab) -> None:
    lab.play("clean.yml", mlflow_cleaning_older_than="30d")
    try:
        check(lambda program: lab.python(ADA, "ada", program), lambda said: lab.root(SERVER, said))
    finally:
        lab.play("clean.yml")
