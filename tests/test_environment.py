"""What is told of an environment of MLflow, and of the Python that it is made with."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_ops import any_python, environment

NAME = "3.17.2-1a2b3c4d5e6f"
PACKAGES = "lib/python{}.{}/site-packages".format(*sys.version_info)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with one whole environment."""
    site = tmp_path / NAME / PACKAGES
    (tmp_path / NAME / "bin").mkdir(parents=True)
    (tmp_path / NAME / "bin/python").symlink_to(sys.executable)
    home = Path(sys.executable).resolve().parent
    (tmp_path / NAME / "pyvenv.cfg").write_text(f"home = {home}\n")
    for name, files in (("mlflow-3.17.2", ["mlflow/core.py"]), ("Flask_WTF-1.3.0", ["wtf.py"])):
        info = site / f"{name}.dist-info"
        info.mkdir(parents=True)
        for file in files:
            (site / file).parent.mkdir(exist_ok=True)
            (site / file).write_text("code")
        lines = [f"{file},sha256=x,4" for file in files] + ["compiled.pyc,,"]
        (info / "RECORD").write_text("\n".join(lines) + "\n")
    (tmp_path / NAME / ".complete").write_text("mlflow==3.17.2\nflask-wtf==1.3.0\n")
    return tmp_path


def test_a_whole_environment_is_complete(root: Path) -> None:
    """And is in use where `current` leads to it."""
    found = environment.look(sys.executable, str(root), NAME)
    assert (found["complete"], found["damage"], found["current"]) == (True, "", "")
    assert found["python"] == list(sys.version_info[:2])
    assert found["writable"] and found["free_mb"] > 0 and found["nearest"] == str(root)
    assert not found["trial"]
    (root / "current").symlink_to(NAME)
    (root / ".on-trial").touch()
    found = environment.look(sys.executable, str(root), NAME)
    assert (found["current"], found["trial"]) == (NAME, True)
    assert not environment.look(sys.executable, str(root), "3.15.2-1a2b3c4d5e6f")["complete"]


@pytest.mark.parametrize("case", ["gone", "cut", "package", "record", "unfinished"])
def test_what_is_damaged_is_named(case: str, root: Path) -> None:
    """The first thing; an installation that was cut off has not come to its list."""
    site = root / NAME / PACKAGES
    if case == "gone":
        (site / "wtf.py").unlink()
    elif case == "cut":
        (site / "wtf.py").write_text("co")
    elif case == "package":
        for file in (site / "Flask_WTF-1.3.0.dist-info").iterdir():
            file.unlink()
        (site / "Flask_WTF-1.3.0.dist-info").rmdir()
    elif case == "record":
        (site / "Flask_WTF-1.3.0.dist-info/RECORD").unlink()
    else:
        (root / NAME / ".complete").write_text("")
    found = environment.look(sys.executable, str(root), NAME)
    assert not found["complete"]
    words = {"package": "package flask-wtf", "record": "RECORD", "unfinished": ""}
    assert found["damage"].endswith(words.get(case, "wtf.py"))


def test_a_package_that_somebody_has_replaced_is_no_damage(root: Path) -> None:
    """Its own record is compared."""
    site = root / NAME / PACKAGES
    (site / "wtf.py").write_text("longer code")
    (site / "Flask_WTF-1.3.0.dist-info").rename(site / "Flask_WTF-1.4.0.dist-info")
    (site / "Flask_WTF-1.4.0.dist-info/RECORD").write_text("wtf.py,sha256=x,11\n")
    assert environment.look(sys.executable, str(root), NAME)["complete"]


def test_another_python_under_an_environment(root: Path) -> None:
    """A release of the system brings it: what is there is whole, and nothing of it runs."""
    lib = root / NAME / PACKAGES.partition("/site")[0]
    lib.rename(lib.with_name("python3.2"))
    found = environment.look(sys.executable, str(root), NAME)
    assert not found["complete"]
    assert found["damage"].endswith(f"{lib.name} now, and its packages are not for that")
    lib.with_name("python3.2").rename(lib)
    (root / NAME / "bin/python").unlink()
    (root / NAME / "bin/python").symlink_to("/usr/bin/python3.2")
    found = environment.look(sys.executable, str(root), NAME)
    assert not found["complete"] and "bin/python does not run" in found["damage"]


def test_where_a_root_would_be_made(tmp_path: Path) -> None:
    """The nearest directory above it decides."""
    (tmp_path / "file").touch()
    found = environment.look(sys.executable, f"{tmp_path}/not/there", NAME)
    assert (found["nearest"], found["writable"]) == (str(tmp_path), True)
    assert not environment.look(sys.executable, f"{tmp_path}/file", NAME)["writable"]


def test_a_python_that_does_not_run_says_why(tmp_path: Path) -> None:
    """Be it none, or one that breaks."""
    with pytest.raises(environment.NoAnswer, match="/usr/bin/python9"):
        environment.ask("/usr/bin/python9")
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'cannot load libpython' >&2; exit 127\n")
    broken.chmod(0o755)
    with pytest.raises(environment.NoAnswer, match="cannot load libpython"):
        environment.ask(str(broken))


def test_pip_is_the_one_that_python_brings() -> None:
    """It runs from its wheel."""
    pip = any_python.pip()
    assert pip, "Debian: sudo apt install python3-venv"
    command = [sys.executable, "-I", f"{pip}/pip", "--version"]
    said = subprocess.check_output(command, text=True, env={"PATH": os.environ["PATH"]})
    assert said.startswith("pip ")
