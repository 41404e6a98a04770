"""Tell what the role `mlflow_backup` must know of a host before it changes anything, as JSON.

Argument: a JSON object with settings (the service's environment file), user, environment,
target (a directory, '' for S3), calendar (when backups are made, '' for never) and
postgresql_bin (a directory with pg_dump, '' for what is on the PATH).

Run by the host's own Python, as root.
"""

import glob
import grp
import json
import os
import pwd
import shlex
import shutil
import stat
import subprocess
import sys

asked = json.loads(sys.argv[1])


def settings() -> dict:
    """Return the service's settings; nothing where there are none."""
    try:
        with open(asked["settings"], encoding="utf-8") as file:
            return dict(line.split("=", 1) for line in shlex.split(file.read(), comments=True))
    except OSError:
        return {}


def databases(service: dict) -> list:
    """Return the addresses of the service's databases, without passwords."""
    found = [service.get("MLFLOW_BACKEND_STORE_URI", "")]
    path = service.get("MLFLOW_AUTH_CONFIG_PATH", "")
    if path and os.path.isfile(path):
        with open(path, encoding="utf-8") as file:
            lines = [line.partition("=") for line in file]
        found += [value.strip() for name, _, value in lines if name.strip() == "database_uri"]
    return [uri for uri in found if uri]


def refused(calendar: str) -> str:
    """Return what systemd says against a calendar expression, or ''."""
    if not calendar or not shutil.which("systemd-analyze"):
        return ""
    done = subprocess.run(
        ["systemd-analyze", "calendar", calendar], capture_output=True, text=True, check=False
    )
    return done.stderr.strip() if done.returncode else ""


# As roles/mlflow_server/files/probe.py has it: a probe is one file, and each has its own.
def changed_by(status: os.stat_result) -> str:
    """Return who besides root may put something else in the place of what a directory holds, or ''.

    Debian gives /usr/local to the group staff, whose members are administrators. A user or a group
    without a name is that of another machine, whose file system this is: nobody here.
    """
    try:
        if status.st_uid != 0 and (found := pwd.getpwuid(status.st_uid).pw_name) != "nobody":
            return found
    except KeyError:
        pass
    if status.st_mode & stat.S_ISVTX or stat.S_ISLNK(status.st_mode):
        return ""
    if status.st_mode & stat.S_IWOTH:
        return "everybody"
    if status.st_mode & stat.S_IWGRP and status.st_gid != 0:
        try:
            group = grp.getgrgid(status.st_gid).gr_name
        except KeyError:
            return ""
        return "" if group in ("staff", "nogroup") else "the group " + group
    return ""


def trap(path: str) -> tuple:
    """Return the first directory on the way to a path that others than root may change, and who.

    Links are followed as the kernel does: one that root made, in a directory of root's, is as good
    as a directory. Both are '' where there is no such directory.
    """
    here, rest, links = "/", path.split("/"), 0
    while rest:
        try:
            status = os.lstat(here)
            if who := changed_by(status):
                return here, who
            step = os.path.normpath(os.path.join(here, rest.pop(0)))
            entry = os.lstat(step)
        except OSError:
            return "", ""  # what is not there yet, root makes
        if status.st_mode & stat.S_ISVTX and step != here and changed_by(entry):
            return step, changed_by(entry)
        if stat.S_ISLNK(entry.st_mode) and links < 40:
            links, target = links + 1, os.readlink(step)
            here, rest = ("/" if target.startswith("/") else here), target.split("/") + rest
        else:
            here = step
    return "", ""


service = settings()
uris = databases(service)
sqlite = [uri[len("sqlite:///") :] for uri in uris if uri.startswith("sqlite:///")]
artifacts = service.get("MLFLOW_ARTIFACTS_DESTINATION", "")
target = os.path.realpath(asked["target"]) if asked["target"] else ""
nearest = target
while nearest and not os.path.exists(nearest):
    nearest = os.path.dirname(nearest)
try:
    pwd.getpwnam(asked["user"])
    user = True
except KeyError:
    user = False

print(
    json.dumps(
        {
            "root": os.geteuid() == 0,
            "systemd": os.path.isdir("/run/systemd/system"),
            "service": bool(service),
            "user": user,
            "environment": os.path.exists(os.path.join(asked["environment"], "bin/python")),
            # Not where a link there leads: it would be opened to the backup.
            "sqlite": sorted({os.path.dirname(path) for path in sqlite}),
            "trap": trap(asked["target"]) if asked["target"] else ("", ""),
            "postgresql": len(sqlite) < len(uris),
            "artifacts": artifacts,
            "inside": [
                path
                for path in {os.path.dirname(os.path.realpath(path)) for path in sqlite}
                | ({os.path.realpath(artifacts)} if artifacts.startswith("/") else set())
                if target and os.path.commonpath([path, target]) == path
            ],
            "target": target,
            "target_kind": "none" if not target else "directory" if os.path.isdir(target)
            else "other" if os.path.exists(target) else "absent",
            "free_mb": shutil.disk_usage(nearest).free // 1000000 if nearest else -1,
            "programs": [name for name in ("rclone", "age") if shutil.which(name)],
            "pg_dump": shutil.which("pg_dump", path=asked["postgresql_bin"] or None) or "",
            "initdb": bool(glob.glob("/usr/lib/postgresql/*/bin/initdb")),
            "calendar": refused(asked["calendar"]),
        }
    )
)  # fmt: skip
