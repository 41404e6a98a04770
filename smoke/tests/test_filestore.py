import shutil
from pathlib import Path

import pytest
from mlflow_smoke import filestore
from mlflow_smoke.names import EXPERIMENT
from stores import TOKEN, make_experiment, make_run


def test_snapshot_of_nothing(tmp_path: Path) -> None:
    assert filestore.snapshot(tmp_path / "mlruns") == {}


def test_differences(root: Path) -> None:
    before = filestore.snapshot(root)
    (root / "new").mkdir()
    assert filestore.differences(before, filestore.snapshot(root)) == []
    shutil.rmtree(root / "7" / "beef" / "artifacts")
    with (root / "7" / "meta.yaml").open("a") as meta:
        meta.write("\n")
    found = filestore.differences(before, filestore.snapshot(root))
    assert f"changed: {root / '7' / 'meta.yaml'}" in found
    assert f"missing: {root / '7' / 'beef' / 'artifacts'}" in found


def test_values_are_read(run: Path) -> None:
    assert filestore.values(run / "metrics") == {"accuracy": "0.96"}
    assert filestore.values(run / "params") == {"C": "0.1", "random_state": "42"}
    with pytest.raises(FileNotFoundError):
        filestore.values(run / "nothing")


def test_model_is_found(run: Path) -> None:
    folder = filestore.model_folder(run)
    assert (folder / "MLmodel").is_file()
    (folder / "MLmodel").unlink()
    with pytest.raises(FileNotFoundError, match="cafe"):
        filestore.model_folder(run)


def test_only_ours_is_removed(root: Path, run: Path) -> None:
    experiment = run.parent
    hers = {path: seen for path, seen in filestore.snapshot(root).items() if "/8" not in path}
    filestore.remove(root, TOKEN, hers)
    assert filestore.snapshot(root) == hers
    assert not experiment.exists()


def test_an_experiment_that_was_there_stays(root: Path) -> None:
    experiment = make_experiment(root, "8", EXPERIMENT)
    before = filestore.snapshot(root)
    make_run(experiment, "cafe", TOKEN, major=3)
    filestore.remove(root, TOKEN, before)
    assert filestore.snapshot(root) == before


def test_somebody_else_came_meanwhile(root: Path, run: Path) -> None:
    hers = {path: seen for path, seen in filestore.snapshot(root).items() if "/8" not in path}
    other = make_run(run.parent, "feed", "another", major=3)
    filestore.remove(root, TOKEN, hers)
    assert (other / "meta.yaml").is_file() and not run.exists()
    assert filestore.model_folder(other)


def test_a_store_made_by_the_smoke_goes(tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    make_experiment(root, "0", "Default")
    make_run(make_experiment(root, "8", EXPERIMENT), "cafe", TOKEN, major=3)
    (root / ".trash").mkdir()
    filestore.remove(root, TOKEN, before={})
    assert not root.exists()


def test_a_store_made_by_the_smoke_stays_once_used(tmp_path: Path) -> None:
    root = tmp_path / "mlruns"
    other = make_run(make_experiment(root, "0", "Default"), "feed", "another", major=2)
    filestore.remove(root, TOKEN, before={})
    assert (other / "meta.yaml").is_file()
