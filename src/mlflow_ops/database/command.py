"""MLflow's databases: compare their schema with MLflow's, create, migrate, save, load.

  status          print one JSON line: each database's state
  check           the same as an exit code: 0, or 1 with a sentence (for systemd, before a start)
  create          bring the schema into the databases that are empty, and touch no other
  migrate         bring the schema of the others to what this MLflow needs
  savable         see that `save` has the programs for it, and that they know the database's version
  replaceable     see that what `save` saves could be loaded again, in the place of what is there
  count           print as JSON how many of each people have made; {} of an empty database
  save DIR        copies of one moment into DIR, with manifest.json; the service may be running
  load DIR        replace what the databases hold by what was saved; all of a database, or nothing
  tell TOKEN WORD let servers that share the database know where a switch is (servers.py)
  told TOKEN      print that word, or nothing

A migration happens by `migrate` alone: MLflow would do it silently when it starts on an older
database, and no older MLflow reads the result. Run it with the environment's Python, as the
service's user; `load`, `migrate` while the service is stopped.

The databases' addresses come from the service's settings, or, with --stdin, from a JSON object
{"tracking": URI, "auth": URI or ""} on standard input: addresses hold passwords, so they are never
arguments. The object may have "connections", {"servers", "workers", "pools", "each"}, for `status`
to hold their product against what PostgreSQL accepts; and "artifacts", {"destination", "roots"},
for it to name what the database has in places that the guard would refuse now.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any

from .. import mlflow_internals as internals
from ..server import guard_places
from ..settings import databases, read_settings
from . import SQLITE, connect, copies, how_to_read, servers, size
from .schema import all_or_nothing, alone, create, refusal, status

CHECKS = {"savable": copies.check_savable, "replaceable": copies.check_replaceable}


def elsewhere(uri: str, destination: str, roots: list[str]) -> list[str]:
    """Return what of a database names places that the guard would refuse now."""
    connection: Any
    if uri.startswith(SQLITE):
        path = Path(uri[len(SQLITE) :])
        connection = sqlite3.connect(f"{path.as_uri()}?{how_to_read(path)}", uri=True)
    else:
        connection = connect(uri)

    def rows(query: str) -> list[tuple[str, str, str]]:
        found = connection.execute(query).fetchall()
        return [(str(a), str(b or ""), str(c or "")) for a, b, c in found]

    with contextlib.closing(connection):
        there = rows(internals.LOCATIONS), rows(internals.SOURCES)
    return guard_places.elsewhere(*there, guard_places.Roots.of(destination, roots))


def asked(from_stdin: bool) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the databases' addresses by kind, and what else is said, see above.

    Without authentication there is one database.
    """
    given: dict[str, Any] = json.load(sys.stdin) if from_stdin else databases(read_settings())
    options = {name: given.pop(name, {}) for name in ("connections", "artifacts")}
    return {kind: uri for kind, uri in given.items() if uri}, options


def main() -> int:
    """Do what the arguments say; return the exit code."""
    parser = argparse.ArgumentParser(description="MLflow's databases.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in (
        "status", "check", "create", "migrate", "savable", "replaceable", "count", "save", "load",
    ):  # fmt: skip
        action = verbs.add_parser(verb)
        action.add_argument("--stdin", action="store_true", help="read the addresses from stdin")
        action.add_argument("--only", metavar="KIND,KIND", help="of these databases alone")
        if verb in ("save", "load"):
            action.add_argument("directory", type=Path, metavar="DIR")
    for verb, words in {"tell": ["token", "word"], "told": ["token"]}.items():
        action = verbs.add_parser(verb)
        action.set_defaults(stdin=False, only="")
        for word in words:
            action.add_argument(word)
    arguments = parser.parse_args()
    uris, options = asked(arguments.stdin)
    if arguments.only:
        uris = {kind: uri for kind, uri in uris.items() if kind in arguments.only.split(",")}
    try:
        return act(arguments, uris, **options)
    except copies.Unusable as error:
        print(error, file=sys.stderr)
    except (OSError, sqlite3.Error) as error:  # of the host; what MLflow raises says where
        print(f"{arguments.verb}: {error}", file=sys.stderr)
    return 1


def act(
    arguments: argparse.Namespace,
    uris: dict[str, str],
    connections: dict[str, int],
    artifacts: dict[str, Any],
) -> int:
    """Do one verb; return the exit code. Raises copies.Unusable."""
    if arguments.verb == "status":
        states = [status(kind, uri, connections) for kind, uri in uris.items()]
        for state in states:
            state |= size(uris[state["kind"]]) if "revision" in state else {}
        answer: dict[str, Any] = {"databases": states}
        if artifacts and states[0]["state"] == "current":
            answer["places"] = elsewhere(uris[states[0]["kind"]], **artifacts)
        print(json.dumps(answer))
    elif arguments.verb == "check":
        reasons = [refusal(status(kind, uri)) for kind, uri in uris.items()]
        if any(reasons):
            print(" ".join(filter(None, reasons)), file=sys.stderr)
            return 1
    elif arguments.verb == "create":
        for kind, uri in uris.items():
            with alone(uri):
                if status(kind, uri)["state"] == "empty":
                    with all_or_nothing(uri):
                        create(kind, uri)
                    print(f"created {kind}")
    elif arguments.verb == "migrate":
        for kind, uri in uris.items():
            if status(kind, uri)["state"] != "current":
                internals.upgrade_schema(kind, uri)
                print(f"migrated {kind}", flush=True)
    elif arguments.verb in CHECKS:
        for uri in uris.values():
            CHECKS[arguments.verb](uri)
    elif arguments.verb == "count":
        made = {kind: internals.of_people(copies.count(kind, uri)) for kind, uri in uris.items()}
        print(json.dumps(made))
    elif arguments.verb == "tell":
        servers.tell(uris["tracking"], arguments.token, arguments.word)
    elif arguments.verb == "told":
        print(servers.told(uris["tracking"], arguments.token))
    elif arguments.verb == "save":
        print(json.dumps(copies.save(uris, arguments.directory)))
    else:
        copies.load(uris, arguments.directory)
    return 0
