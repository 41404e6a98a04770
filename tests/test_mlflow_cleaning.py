"""The role mlflow_cleaning: ages, whose files are whose, and what it refuses before it changes."""

import argparse
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from records import interpreter, saved
from refusals import refused

from mlflow_ops import gc
from mlflow_ops import mlflow_internals as internals


@pytest.mark.parametrize(
    "text, means",
    [
        ("30d", timedelta(days=30)),
        ("1d12h", timedelta(days=1, hours=12)),
        ("2h30m10s", timedelta(hours=2, minutes=30, seconds=10)),
        ("0s", timedelta()),
    ],
)
def test_ages(text: str, means: timedelta) -> None:
    assert gc.age(text) == means


@pytest.mark.parametrize("text", ["", "30", "d", "30 d", "1h2d", "-1d", "1w"])
def test_what_is_no_age(text: str) -> None:
    """A number without a unit least of all: 0 seconds or 30 years, who knows."""
    with pytest.raises(argparse.ArgumentTypeError, match="it is like 30d"):
        gc.age(text)


def run(place: str) -> Any:
    return gc.Thing("run", "cafe01", "fox", place, 0, 7)


@pytest.mark.parametrize(
    "place, directory",
    [
        ("mlflow-artifacts:/7/cafe01/artifacts", "mlflow-artifacts:/7/cafe01"),
        ("s3://team/old/7/cafe01/artifacts", "s3://team/old/7/cafe01"),
        ("/srv/mlruns/7/cafe01/artifacts", "/srv/mlruns/7/cafe01"),
    ],
)
def test_a_runs_own_directory(place: str, directory: str) -> None:
    assert gc.own_directory(run(place)) == directory


@pytest.mark.parametrize(
    "place",
    [
        "mlflow-artifacts:/7/artifacts",
        "mlflow-artifacts:/7/cafe01",
        "s3://team",
        "mlflow-artifacts:/../cafe01/artifacts",
        "/srv/a/../cafe01/artifacts",
    ],
)
def test_no_other_directory_goes(place: str) -> None:
    """Who makes an experiment says where its files are; others' may be there too."""
    with pytest.raises(gc.Refused, match="not in a directory of its own"):
        gc.own_directory(run(place))


HEX = "0123456789abcdef0123456789abcdef"
MODEL = f"m-{HEX}"
# name: (a version's run, its source, where its files are; the kind and id of what was deleted;
# whether it must stay)
COME_FROM: dict[str, tuple[list[str], str, str, bool]] = {
    "its run": ([HEX, "elsewhere", ""], "run", HEX, True),
    "a run of another name": (["fox", "", ""], "run", "fox", True),
    "its source": (["", f"runs:/{HEX}/model", ""], "run", HEX, True),
    "within a word": (["", f"s3://b/x-{HEX}f/model", ""], "run", HEX, True),
    "where its files are": (["", "", f"mlflow-artifacts:/7/models/{MODEL}/artifacts"], "model",
                            MODEL, True),
    "a model by its id": (["", f"models:/{MODEL}", ""], "model", MODEL, True),
    "a model within a word": (["", f"s3://b/x{MODEL}", ""], "model", MODEL, True),
    "an experiment": (["", "mlflow-artifacts:/7/x/y", ""], "experiment", "7", True),
    "another experiment": (["", "mlflow-artifacts:/77/x/y", ""], "experiment", "7", False),
    "another run": ([HEX[::-1], f"runs:/{HEX[::-1]}/model", ""], "run", HEX, False),
    "a run without a name": (["", "", ""], "run", HEX, False),
}  # fmt: skip


@pytest.mark.parametrize("case", COME_FROM)
def test_what_a_version_comes_from_stays(case: str) -> None:
    row, kind, name, stays = COME_FROM[case]
    thing = gc.Thing(kind, name, "n", "mlflow-artifacts:/7", 0, 7)
    found = gc.Versions([["iris", "3", *row]]).of(thing)
    assert found == ("version 3 of iris" if stays else "")


def test_a_version_that_is_registered_meanwhile_keeps_what_it_comes_from() -> None:
    """However long it takes to remove what comes before; nothing is read twice for nothing."""
    runs = [gc.Thing("run", name * 32, name, "mlflow-artifacts:/7", 0, 7) for name in "abc"]
    rows: list[tuple[str, ...]] = []
    asked: list[str] = []

    class Cleaner(gc.Cleaner):
        def __init__(self) -> None:
            self.mark, self.known = [], gc.Versions([])

        def old(self, kind: str) -> Iterator[list[gc.Thing]]:
            yield from [runs] if kind == "run" else []

        def still(self, _: gc.Thing) -> bool:
            return True

        def registered(self, query: str) -> list[Any]:
            asked.append(query)
            return rows if query == internals.VERSIONS_FROM else [(len(rows), None)]

        def remove(self, thing: gc.Thing) -> None:
            removed.append(str(thing.name))
            if thing.name == "a":
                rows.append(("iris", "1", "c" * 32, "", ""))

    removed: list[str] = []
    assert Cleaner().clean(dry_run=False) == 0
    assert removed == ["a", "b"]
    assert asked.count(internals.VERSIONS_FROM) == 2


# name: (variables, words that the one error must have)
BAD_INPUT: dict[str, tuple[dict[str, Any], list[str]]] = {
    "an age without a unit": (
        {"mlflow_cleaning_older_than": "30"}, ["mlflow_cleaning_older_than", '"30"', "30d"],
    ),
    "an age in weeks": ({"mlflow_cleaning_older_than": "2w"}, ["mlflow_cleaning_older_than"]),
    "a size in words": (
        {"mlflow_cleaning_journal_max_size": "1 GB"}, ["mlflow_cleaning_journal_max_size", "500M"],
    ),
    "no such time": (
        {"mlflow_cleaning_schedule": "at night"}, ["mlflow_cleaning_schedule", "at night"],
    ),
    "no such span of time": (
        {"mlflow_cleaning_journal_max_age": "a while"},
        ["mlflow_cleaning_journal_max_age", "a while"],
    ),
    "no server": (
        {}, ["There is no /etc/mlflow/installation.json", "ops.mlflow.scenario2"],
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what each bad input was answered with, on a host that has a server."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "without").mkdir()
    without = interpreter(folder / "without", folder / "without/installation.json")
    cases: dict[str, Any] = {case: variables for case, (variables, _) in BAD_INPUT.items()}
    cases["no server"] = {"ansible_python_interpreter": without}
    common = {"ansible_python_interpreter": interpreter(folder, saved(folder))}
    return refused(folder, cases, "mlflow_cleaning", **common).errors


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_refused(case: str, errors: dict[str, str]) -> None:
    """One error names the variable, what is allowed and the file."""
    for word in [*BAD_INPUT[case][1], "Nothing was changed"]:
        assert word in errors[case]
