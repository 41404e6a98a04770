"""Tell what the role `mlflow` must know of a host before it changes anything, as one JSON line.

Arguments: the installation root, the environment's directory name below it.
Read by the host's own Python, whatever its version: nothing newer than Python 3.6 here.
"""

import csv
import getpass
import json
import os
import re
import shutil
import sys
import sysconfig
from pathlib import Path

root, name = Path(sys.argv[1]), sys.argv[2]
environment, current = root / name, root / "current"


def project(distribution: str) -> str:
    """Return a distribution's normalised project name: `Flask_WTF-1.3.0.dist-info` is flask-wtf."""
    return re.sub(r"[-_.]+", "-", distribution.split("-")[0]).lower()


def first_damage(names: list) -> str:
    """Return the first thing that was installed and is not as it was, or ''.

    A package that someone added or replaced by pip is no damage: its own record is compared.
    """
    infos = list(environment.glob("lib/python*/site-packages/*.dist-info"))
    missing = set(names) - {project(info.name) for info in infos}
    if missing:
        return "package " + min(missing)
    for info in infos:
        with (info / "RECORD").open(newline="", encoding="utf-8") as record:
            for path, _, size in csv.reader(record):
                file = os.path.join(str(info.parent), path)
                # Compiled files have no size in a record: they come and go.
                if size and not (os.path.isfile(file) and os.path.getsize(file) == int(size)):
                    return file
    return ""


nearest = root
while not nearest.exists():
    nearest = nearest.parent

# The pip that Python itself would put into an environment. Run from its wheel it brings uv, and
# need not be installed first. Debian ships ensurepip, and the wheel, apart: in python3-venv.
pips = []
try:
    import ensurepip

    for place in (
        sysconfig.get_config_var("WHEEL_PKG_DIR"),
        os.path.join(os.path.dirname(ensurepip.__file__), "_bundled"),
    ):
        pips += sorted(Path(place).glob("pip-*.whl")) if place else []
except ImportError:
    pass

# Written last by the installation, so that an interrupted one has none, or an empty one.
manifest = environment / ".complete"
installed = manifest.read_text().split() if manifest.is_file() else []
try:
    damage = first_damage([project(line.split("==")[0].replace("-", "_")) for line in installed])
except OSError as error:
    damage = str(error.filename)

print(
    json.dumps(
        {
            "python": list(sys.version_info[:2]),
            "user": getpass.getuser(),
            "pip": str(pips[0]) if pips else "",
            "nearest": str(nearest),
            "writable": nearest.is_dir() and os.access(str(nearest), os.W_OK | os.X_OK),
            "free_mb": shutil.disk_usage(str(nearest)).free // 1000000,
            "complete": bool(installed) and not damage,
            "damage": damage,
            "current": os.readlink(str(current)) if current.is_symlink() else "",
            # It may yet move back: see role mlflow_switch.
            "trial": (root / ".on-trial").exists(),
        }
    )
)
