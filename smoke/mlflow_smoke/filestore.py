"""MLflow's file store, read and cleaned as plain files, without MLflow.

Layout, 2.x and 3.x: `<root>/<experiment>/meta.yaml`, `<root>/<experiment>/<run>/{meta.yaml,metrics,
params,tags,artifacts}`. The model is among the run's artifacts in 2.x, and in
`<root>/<experiment>/models/m-<id>/artifacts` in 3.x.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from mlflow_smoke.names import EXPERIMENT, MODEL, TAG

# For every file its size in bytes and its time of change in ns; for every directory nothing.
Snapshot = dict[str, tuple[int, int] | None]


def snapshot(root: Path) -> Snapshot:
    """All that is under a directory now; nothing when there is no such directory."""
    seen: Snapshot = {str(root): None} if root.is_dir() else {}
    for folder, folders, files in os.walk(root):
        seen.update({str(Path(folder, name)): None for name in folders})
        for name in files:
            path = Path(folder, name)
            status = path.lstat()
            seen[str(path)] = (status.st_size, status.st_mtime_ns)
    return seen


def differences(before: Snapshot, after: Snapshot) -> list[str]:
    """What was there before and is now missing or changed."""
    return [
        f"{'changed' if path in after else 'missing'}: {path}"
        for path, status in before.items()
        if path not in after or after[path] != status
    ]


def tally(root: Path, moment: float) -> dict[str, list[int]]:
    """How many files, and bytes, each directory below a root holds that nobody has touched since.

    What is written or removed later is missing, what is new does not count: two tallies of one
    moment are the same as long as nothing is lost.

    Args:
        root: the directory.
        moment: in seconds since 1970.
    """
    found: dict[str, list[int]] = {}
    for folder, _, files in os.walk(root):
        name = (*Path(folder).relative_to(root).parts, ".")[0]
        count = found.setdefault(name, [0, 0])
        for file in files:
            try:
                status = Path(folder, file).lstat()
            except FileNotFoundError:  # somebody else's, gone meanwhile
                continue
            if status.st_ctime < moment:
                count[0] += 1
                count[1] += status.st_size
    return {name: count for name, count in found.items() if count[0]}


def meta(folder: Path) -> dict[str, Any]:
    """The `meta.yaml` of an experiment, a run or a model."""
    return load_yaml(folder / "meta.yaml")


def load_yaml(file: Path) -> dict[str, Any]:
    """What a YAML file says; not every Python that starts the smoke knows YAML."""
    import yaml

    content: dict[str, Any] = yaml.safe_load(file.read_text())
    return content


def values(folder: Path) -> dict[str, str]:
    """Parameters, metrics or tags of a run: one file each; of a metric, its latest value."""
    return {path.name: latest(path.read_text()) for path in sorted(folder.iterdir())}


def latest(text: str) -> str:
    """The value in a file: a metric's lines are `<time in ms> <value> <step>`, newest last."""
    words = text.splitlines()[-1].split(" ") if text else [""]
    return words[1] if len(words) == 3 and words[0].isdigit() else text


def model_folder(run: Path) -> Path:
    """Where a run's model is stored, in a file store as among a server's artifacts.

    Raises:
        FileNotFoundError: when there is none.
    """
    for folder in (run / "artifacts" / MODEL, *run.parent.glob("models/*/artifacts")):
        path = folder / "MLmodel"
        if path.is_file() and load_yaml(path).get("run_id") == run.name:
            return folder
    raise FileNotFoundError(f"no MLmodel of run {run.name} under {run.parent}")


def model_file(folder: Path) -> Path:
    """The file that holds the model itself: `model.pkl`, in later MLflow 3 `model.skops`.

    Raises:
        FileNotFoundError: when there is none.
    """
    for name in ("model.pkl", "model.skops"):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"no model file in {folder}")


def logged_models(run: Path) -> list[Path]:
    """The directories that MLflow 3 keeps beside a run for its models."""
    metas = run.parent.glob("models/*/meta.yaml")
    return [path.parent for path in metas if meta(path.parent).get("source_run_id") == run.name]


def remove(root: Path, token: str, before: Snapshot) -> None:
    """Removes what a smoke made in a store, and nothing else.

    Its run is the one tagged with its token. The experiment, and the store itself, go only when
    they were not there before and nobody else has put anything into them since.

    Args:
        root: the store.
        token: what the run is tagged with.
        before: the store as the smoke found it.
    """
    for tag in root.glob(f"*/*/tags/{TAG}"):
        run = tag.parents[1]
        if tag.read_text() == token:
            for folder in [*logged_models(run), run]:
                shutil.rmtree(folder)
    for folder in [*root.glob("*/models"), root / "models", root / ".trash"]:
        if str(folder) not in before and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    for path in root.glob("*/meta.yaml"):
        experiment = path.parent
        if str(experiment) not in before and meta(experiment).get("name") == EXPERIMENT:
            if list(experiment.iterdir()) == [path]:
                shutil.rmtree(experiment)
    default = root / "0"  # the experiment Default, which MLflow makes together with the store
    empty = {str(path) for path in (root, default, default / "meta.yaml")}
    if str(root) not in before and set(snapshot(root)) == empty:
        shutil.rmtree(root)
