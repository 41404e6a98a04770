"""The content of a directory of artifacts changes places, and comes back wherever it is cut off."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from mlflow_ops import there
from mlflow_ops.artifacts import NEW, Content
from mlflow_ops.server.guard_places import Refused, Roots, is_put_aside
from mlflow_ops.server.reset import Directory
from mlflow_ops.there import ASIDE

OLD = {"1/a/model": "old", "2/b/model": "old", "notes": "old"}
FRESH = {"1/a/model": "new", "3/c/model": "new", "4/d/model": "new"}
NAME = "20261128T105149Z-3.17.2"


def fill(place: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(text)


def held(place: Path) -> dict[str, str]:
    """Return the artifacts in a directory."""
    return {str(one.relative_to(place)): one.read_text() for one in there.below(place, "")}


@pytest.fixture(params=["a directory", "a link"])
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """One with a file system's own directory in it, and with what is to come."""
    real = tmp_path / "disk"
    (real / "lost+found").mkdir(parents=True)
    (real / "lost+found/#12").write_text("a piece")
    fill(real, OLD)
    Content(real).wait()
    fill(real / ASIDE / NEW, FRESH)
    if request.param == "a directory":
        return real
    (tmp_path / "link").symlink_to(real)
    return tmp_path / "link"


def test_content_changes_places_and_comes_back(place: Path) -> None:
    """The directory itself stays, and so does what is a file system's own."""
    before, content = place.stat().st_ino, Content(place)
    content.exchange(NAME)
    assert held(place) == FRESH
    assert held(place / ASIDE / NAME) == OLD
    fill(place, {"3/c/more": "logged on trial"})
    for _ in range(2):  # again, where nobody knows whether it was done
        content.back(NAME)
        assert held(place) == OLD
    assert held(place / ASIDE / NEW) == {**FRESH, "3/c/more": "logged on trial"}
    assert (place / "lost+found/#12").read_text() == "a piece"
    assert place.stat().st_ino == before
    assert sorted(path.name for path in (place / ASIDE).iterdir()) == [NEW]


def test_what_was_logged_on_trial_waits_for_nobody(place: Path) -> None:
    """It has a name of its own, which the next restore leaves alone."""
    content = Content(place)
    content.exchange(NAME)
    fill(place, {"3/c/more": "logged on trial"})
    for _ in range(2):
        content.back(NAME, "kept")
    content.wait()
    assert held(place) == OLD
    assert held(place / ASIDE / "kept") == {**FRESH, "3/c/more": "logged on trial"}


@pytest.mark.parametrize("back", range(12))
@pytest.mark.parametrize("forward", range(8))
def test_it_is_cut_off_on_both_ways(
    place: Path, forward: int, back: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After so many steps of an exchange, and so many of the way back: the old is there again."""
    rename, left = Path.rename, forward

    def limited(path: Path, target: Any) -> Path:
        nonlocal left
        left -= 1
        if left < 0:
            raise InterruptedError
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", limited)
    content = Content(place)
    for steps, way in ((forward, content.exchange), (back, content.back), (99, content.back)):
        left = steps
        try:
            way(NAME)
        except InterruptedError:
            pass
    assert held(place) == OLD
    everything = {*held(place / ASIDE / NEW).items()}
    assert everything == {*FRESH.items()}


def test_a_disk_that_is_not_mounted_is_none_that_came_back(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is a disk not mounted"):
        Content(tmp_path).back(NAME)


def test_a_link_in_the_place_of_what_is_to_come_is_removed(tmp_path: Path) -> None:
    content, other = Content(tmp_path / "artifacts"), tmp_path / "others"
    fill(other, OLD)
    content.place.mkdir()
    content.wait()
    (content.aside / NEW).symlink_to(other)
    content.wait()
    assert not (content.aside / NEW).exists()
    assert held(other) == OLD


def test_what_was_put_aside_is_no_artifact(place: Path) -> None:
    """It is not counted; a reset leaves it; no experiment may be there."""
    directory = Directory(str(place))
    assert sum(directory.sizes()) == sum(len(text) for text in OLD.values())
    directory.empty()
    assert held(place) == {}
    assert held(place / ASIDE / NEW) == FRESH
    with pytest.raises(Refused, match="is no place for artifacts"):
        Roots.of(str(place), []).new_location(f"mlflow-artifacts:/{ASIDE}/mine")
    for path in (ASIDE, f"{ASIDE}/{NAME}/1/a/model", f"./{ASIDE}//new"):
        assert is_put_aside(path)
    assert not is_put_aside(f"1/{ASIDE}")


def test_a_mount_point_and_what_is_below_it(tmp_path: Path) -> None:
    """A directory that is a file system of its own: nothing leaves it, nor is it renamed."""
    script = """
    set -e; cd "$1"; mount -t tmpfs none artifacts; mkdir -p artifacts/1 artifacts/lost+found
    chmod 0 artifacts/lost+found; echo old > artifacts/1/model
    run() { python3 -Es "$2" artifacts "$1" "$PWD/artifacts" $3; }
    run await "$2"; cd artifacts/.mlflow-aside; mkdir -p new/1; echo new > new/1/model; cd "$1"
    run exchange "$2" moment; cat artifacts/1/model; run back "$2" moment; cat artifacts/1/model
    """
    (tmp_path / "artifacts").mkdir()
    source = Path(__file__).resolve().parent.parent / "src"
    said = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", tmp_path, source],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (said.stdout, said.stderr) == ("new\nold\n", "")
