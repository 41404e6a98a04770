from pathlib import Path

import pytest
from mlflow_smoke.names import EXPERIMENT
from mlflow_smoke.report import Kind, Report
from stores import TOKEN, make_experiment, make_run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store that a user has worked in."""
    root = tmp_path / "mlruns"
    make_experiment(root, "0", "Default")
    make_run(make_experiment(root, "7", "hers"), "beef", "not-ours", major=3)
    return root


@pytest.fixture(params=[2, 3], ids=["mlflow2", "mlflow3"])
def run(request: pytest.FixtureRequest, root: Path) -> Path:
    """A smoke's run in there, not yet cleaned up."""
    return make_run(make_experiment(root, "8", EXPERIMENT), "cafe", TOKEN, request.param)


@pytest.fixture
def report() -> Report:
    """A report with one check that passed."""
    report = Report("scenario1", "/home/ada/mlflow", version="3.17.2")
    with report.check("tracking URI", Kind.TRACKING, "file:///home/ada", "Look there.") as check:
        check.seen = "file:///home/ada"
    return report
