"""What a person sees in a browser: a login over HTTPS, then runs, pictures and models.

SCREENSHOTS=<directory> keeps two pictures, those of docs/scenario3.md.
"""

import subprocess
from collections.abc import Iterator

import pytest
from browser import keep, see_picture, see_run, window
from hosts import Lab
from playwright.sync_api import Error, Page, expect

SERVER, CLIENT = "mlflow.example.com", "login1.example.com"
ADDRESS = f"https://{SERVER}"

LOG = """
import json
import matplotlib.pyplot as plt
import mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import ConfusionMatrixDisplay

X, y = load_iris(return_X_y=True)
mlflow.set_experiment("shown-in-a-browser")
with mlflow.start_run() as run:
    model = LogisticRegression(C=0.1, random_state=42).fit(X, y)
    mlflow.log_params({"C": 0.1, "random_state": 42})
    mlflow.log_metric("accuracy", model.score(X, y))
    ConfusionMatrixDisplay.from_estimator(model, X, y)
    mlflow.log_figure(plt.gcf(), "confusion_matrix.png")
    mlflow.sklearn.log_model(
        model, name="models", registered_model_name="iris-in-a-browser", pip_requirements=[]
    )
info = run.info
print(json.dumps({"id": info.run_id, "name": info.run_name, "experiment": info.experiment_id}))
"""


@pytest.fixture(scope="module")
def run(lab: Lab) -> dict[str, str]:
    """A run of Ada's to look at."""
    return dict(lab.python(CLIENT, "ada", LOG))


@pytest.fixture(scope="module")
def browser_of_grace(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """Grace's browser, into which she has brought the team's CA, as docs/scenario3.md says."""
    home = tmp_path_factory.mktemp("grace")
    store = home / ".pki/nssdb"
    store.mkdir(parents=True)
    ca = home / "ca.pem"
    ca.write_text(lab.root(SERVER, "cat /etc/ssl/mlflow/ca.pem"))
    for words in (
        ["-N", "--empty-password"],
        ["-A", "-n", "MLflow", "-t", "C,,", "-i", str(ca)],
    ):
        subprocess.run(["certutil", "-d", f"sql:{store}", *words], check=True)
    resolve = f"--host-resolver-rules=MAP {SERVER} {lab.address(SERVER)}"
    password = lab.variables["vault_mlflow_users"]["grace"]
    with window(
        resolve, credentials={"username": "grace", "password": password}, home=home
    ) as page:
        yield page


def test_nobody_sees_anything_without_a_login(lab: Lab) -> None:
    resolve = f"--host-resolver-rules=MAP {SERVER} {lab.address(SERVER)}"
    with window(resolve, "--ignore-certificate-errors") as page:
        with pytest.raises(Error, match="ERR_INVALID_AUTH_CREDENTIALS"):
            page.goto(f"{ADDRESS}/")


def test_her_colleagues_run(browser_of_grace: Page, run: dict[str, str]) -> None:
    page = browser_of_grace
    page.goto(f"{ADDRESS}/#/experiments/{run['experiment']}/runs/{run['id']}")
    see_run(page, run)
    keep(page, "scenario3-run")
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("confusion_matrix.png").first.click()
    see_picture(page)


def test_the_registered_model(browser_of_grace: Page, run: dict[str, str]) -> None:
    page = browser_of_grace
    page.goto(f"{ADDRESS}/#/models")
    page.get_by_role("link", name="iris-in-a-browser").first.click()
    page.get_by_role("link", name="Version").first.click()
    expect(page.get_by_role("link", name=run["name"])).to_be_visible()
    keep(page, "scenario3-model")
