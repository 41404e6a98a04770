from pathlib import Path

import pytest
from mlflow_smoke.names import EXPERIMENT, PICTURE
from mlflow_smoke.report import CheckFailedError, Kind, Report
from mlflow_smoke.scenario1 import look_at_files
from stores import TOKEN

BROKEN = {
    "meta.yaml": ("../meta.yaml", f"name: {EXPERIMENT}\nlifecycle_stage: deleted\n", Kind.TRACKING),
    "params": ("params/C", "0.2", Kind.TRACKING),
    "metrics": ("metrics/accuracy", "1795384313534 0.5 0\n", Kind.TRACKING),
    "tags": ("tags/mlflow_smoke", "another", Kind.TRACKING),
    PICTURE: (f"artifacts/{PICTURE}", "<html>", Kind.ARTIFACTS),
}


def test_files_as_mlflow_leaves_them(run: Path) -> None:
    report = Report("scenario1", "here")
    look_at_files(run, TOKEN, 0.96, report)
    assert len(report.checks) == 6 and not report.failures


def test_an_experiment_of_the_user_interface_s_is_as_good(run: Path) -> None:
    """`mlflow ui` writes its place as a path, and a client as an address."""
    meta = run.parent / "meta.yaml"
    meta.write_text(meta.read_text().replace("file://", ""))
    report = Report("scenario1", "here")
    look_at_files(run, TOKEN, 0.96, report)
    assert not report.failures


@pytest.mark.parametrize("part", BROKEN)
def test_broken_files_are_seen(run: Path, part: str) -> None:
    path, content, kind = BROKEN[part]
    (run / path).write_text(content)
    report = Report("scenario1", "here")
    with pytest.raises(CheckFailedError, match=part):
        look_at_files(run, TOKEN, 0.96, report)
    assert report.exit_code == kind.exit_code


def test_missing_model_is_seen(run: Path) -> None:
    for model in run.parent.rglob("model.pkl"):
        model.unlink()
    report = Report("scenario1", "here")
    with pytest.raises(CheckFailedError, match="models"):
        look_at_files(run, TOKEN, 0.96, report)
    assert report.exit_code == Kind.ARTIFACTS.exit_code
