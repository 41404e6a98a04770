"""Look at a host or a client of MLflow, and say in plain words what is wrong and what to do.

It changes nothing and leaves nothing: it reads and asks, and puts one small artifact that it
deletes again, as `mlflow-ready` does.

examine() takes kind (`host`: a host of services, seen by root; `client`: what
leads to a server, seen by who uses it; `local`: a project without one) and the role's variables,
each without the role's name. It returns looked (names of what was looked at), unseen (what could
not be, by the reason) and findings, each with check, severity (error, warning or note), what is
wrong, what it means, and the remedy.

Each check is a function that yields what it finds, and says with which kinds of host, and after
which others, it is made. `presence` has those of MLflow itself, `services` and `server` those of a
host of services, `client` those of what leads to a server, `machine` those of every host.
Run by the host's own Python, or a client's: nothing newer than Python 3.9.
"""

from __future__ import annotations

import os
import traceback
from dataclasses import asdict
from typing import Any

from .. import installation as record
from . import client, machine, presence, report, server, services
from .patient import Patient
from .report import Finding, Unseen, error

# In this order: each after those that it waits for.
CHECKS = [
    one
    for part in (presence, services, server, client, machine)
    for one in report.CHECKS
    if one.look.__module__ == part.__name__
]


def of_record(asked: dict[str, Any]) -> dict[str, Any]:
    """Return what is asked, with what this host's record says of a server that should be here.

    Without a record nothing is where it should be, which the check of the installation says; and
    who may not read it, sees nothing of the rest.
    """
    if not asked["server"]:
        return {**asked, "settings": "", "unit": "", "user": "", "backup_status": ""}
    try:
        here = record.read()
    except (record.NotInstalled, PermissionError):
        here = record.Installation(
            "", "mlflow.service", "mlflow", asked["environment"], "/etc/mlflow", "", "", "", True
        )
    status = "/var/lib/mlflow-backup/status.json" if here.leader else ""
    return {
        **asked, "settings": str(here.settings), "unit": here.unit, "user": here.user,
        "environment": here.environment, "backup_status": status,
    }  # fmt: skip


def examine(asked: dict[str, Any]) -> dict[str, Any]:
    """Make all checks that fit; return the report. A check that breaks ends no other."""
    os.environ.pop("MLFLOW_BACKEND_STORE_URI", None)  # the service's settings are in its file
    patient = Patient(asked)
    looked: list[str] = []
    unseen: dict[str, list[str]] = {}
    if "host" in patient.kinds and os.geteuid():
        return {"looked": [], "unseen": {"only root sees it": ["services"]}, "findings": []}
    findings: list[Finding] = []
    closed: dict[str, set[str]] = {}  # what others wait for in vain, and what is wrong there
    for one in CHECKS:
        if not patient.kinds & set(one.kinds):
            continue
        found: list[Finding] = []
        waits = {cause for name in one.after for cause in closed.get(name, ())}
        try:
            if waits:
                closed[one.name] = waits
                raise Unseen(f"first, {' and '.join(sorted(waits))}")
            found.extend(one.look(patient))
            looked.append(one.name)
        except Unseen as reason:
            unseen.setdefault(str(reason), []).append(one.name)
        except Exception as broken:
            # Of its words, which may hold a secret, only the system's.
            said = f" ({broken})" if isinstance(broken, OSError) else ""
            where = traceback.extract_tb(broken.__traceback__)[-1]
            found.append(
                error(
                    f"The doctor could not look at this: {type(broken).__name__}{said} in "
                    f"{where.name}, line {where.lineno}.",
                    "It may be well, or not.",
                    "Look at it by hand, and tell who maintains these playbooks.",
                )
            )
        findings += [Finding(**{**asdict(finding), "check": one.name}) for finding in found]
        if any(finding.severity == "error" for finding in found):
            closed[one.name] = {one.name}
    return {"looked": looked, "unseen": unseen, "findings": [asdict(one) for one in findings]}
