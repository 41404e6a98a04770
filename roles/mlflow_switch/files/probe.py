"""Tell what the role `mlflow_switch` must know of a host before it changes anything, as JSON.

Argument: a JSON object with tools (the directory of the server's programs), settings (the
service's environment file), link (`current`), user, state (a directory that need not exist) and
path (where to look for PostgreSQL's programs first, '' for nowhere).

Run by the host's own Python, as root: nothing newer than Python 3.9.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

asked = json.loads(sys.argv[1])
tools, link, state = Path(asked["tools"]), Path(asked["link"]), Path(asked["state"])


def databases() -> list:
    """Return the databases' states, as the installed MLflow sees them; [] if it does not answer."""
    command = ["runuser", "--user=" + asked["user"], "--", str(link / "bin/python"), "-Es"]
    try:
        said = subprocess.run(
            [*command, str(tools), "database", "status"],
            cwd="/", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True,
            env={"PATH": os.environ["PATH"], **settings},
        ).stdout  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return []
    return list(json.loads(said)["databases"])


def postgresql_client() -> int:
    """Return the major version of pg_dump, 0 where there is none."""
    found = shutil.which("pg_dump", path=os.pathsep.join([asked["path"], os.environ["PATH"]]))
    if not found or not shutil.which("psql"):
        return 0
    said = subprocess.run([found, "--version"], stdout=subprocess.PIPE, check=True).stdout.decode()
    version = re.search(r"\) (\d+)", said)
    return int(version.group(1)) if version else 0


answer = {
    "installed": link.is_symlink() and tools.is_dir(),
    "earlier": (tools.parent / "switch.py").exists() and (state / "plan.json").exists(),
}
if answer["installed"]:
    sys.path.insert(0, str(tools))
    sys.dont_write_bytecode = True
    from mlflow_ops.settings import read_settings

    settings = read_settings(Path(asked["settings"]))
    nearest = state
    while not nearest.exists():
        nearest = nearest.parent
    ready = subprocess.run(
        [sys.executable, "-BEs", str(tools), "ready", "--env-file", asked["settings"]],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    answer.update(
        serves=os.readlink(str(link)),
        ready="" if ready.returncode == 0 else ready.stdout.strip(),
        databases=databases(),
        pending=(state / "plan.json").exists(),
        free_mb=shutil.disk_usage(str(nearest)).free // 1000000,
        postgresql_client=postgresql_client(),
    )
print(json.dumps(answer))
