"""The smoke as a host gets it: the command that starts it, what it reads, and what it has said."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SMOKE = Path(__file__).resolve().parents[2] / "smoke"
RECORD = "/etc/mlflow/installation.json"
DEEPEST = 50  # how many objects and lists may be within one another

# Parts of scenario 3 that are about the server of a host: it has its own Python.
OF_SERVER = ("access", "look")
# Whose password a part is told, of those that the report of `begin` has. `end` is told both.
WHOSE = {"log": "a", "see": "b", "look": ""}


def packed() -> str:
    """Return the program as one line.

    Nothing is written, not even what an import of pack.py would compile: a collection is not
    everybody's to write.
    """
    file = SMOKE / "pack.py"
    module: dict[str, Any] = {"__name__": "pack", "__file__": str(file)}
    exec(compile(file.read_bytes(), file, "exec"), module)  # noqa: S102 it is our own
    return str(module["text"]())


def command(asked: Mapping[str, Any]) -> list[str]:
    """Return what starts it. -I: nothing of the present directory, nor of anybody's home, gets in.

    Args:
        asked: the options of the module `smoke`.
    """
    load = (SMOKE / "mlflow_smoke/load.py").read_text(encoding="utf-8")
    keep = ["--keep"] * asked["keep"]
    if asked["scenario"] == "scenario1":
        return [asked["python"], "-I", "-c", load, "scenario1", *asked["arguments"], *keep]
    # Root starts parts with the host's own Python.
    start = ["python3", "-I", "-c", load, "apart"]
    if asked["part"] == "access":
        return [*start, "access"]
    if asked["part"] not in OF_SERVER:
        start += ["--python", asked["python"]]
    for address in asked["addresses"]:
        start += ["--address", address]
    part = [asked["part"]] if asked["part"] else []
    return [*start, asked["scenario"], *part, *asked["arguments"], *keep]


def read(asked: Mapping[str, Any]) -> str:
    """Return what it reads from standard input: itself, and what the part is told, a line each.

    Args:
        asked: the options of the module `smoke`.
    """
    letter = WHOSE.get(asked["part"])
    told = [dict(document) for document in asked["told"]]
    for document in told:
        if letter is not None and "users" in document:
            users = document["users"]
            document["users"] = {letter: users[letter]} if letter in users else {}
    return "\n".join([packed(), *map(json.dumps, told)])


def answer(asked: Mapping[str, Any], ran: Mapping[str, Any], host: str) -> dict[str, Any]:
    """Return what it has said.

    Args:
        asked: the options of the module `smoke`.
        ran: what the module `command` returned.
        host: where it ran, as the inventory calls it.
    """
    errors, output, words = (str(ran.get(name) or "") for name in ("stderr", "stdout", "msg"))
    report = document((output.splitlines() or [""])[-1])
    # What is said for programs has passwords in it. One that has no report is none that knows any.
    said = [errors] if report else [errors, output, words]
    lines = next((text.splitlines() for text in said if text.strip()), [])
    python = f"that of the environment in {RECORD}"
    if asked["part"] not in OF_SERVER:
        python = asked["python"]
    lost = {
        "lost": f"{asked['part'] or asked['scenario']} on {host}",
        "said": "\n".join(lines),
        "advice": f"It made no report. Look at its Python, {python}.",
    }
    return {
        "changed": False,
        "passed": ran.get("rc") == 0 and report.get("passed") is True,
        "report": report,
        "lines": lines,
        "handed_on": report or lost,
    }


def document(line: str) -> dict[str, Any]:
    """Return a JSON object, or an empty one: whoever is in a model may have written the line."""
    try:
        found = json.loads(line)
        json.dumps(found, ensure_ascii=False).encode()  # which has no half characters
    except (ValueError, RecursionError):
        return {}
    level = [found]
    for _ in range(DEEPEST):
        level = [inner for item in level if isinstance(item, (dict, list))
                 for inner in (item.values() if isinstance(item, dict) else item)]  # fmt: skip
    return found if isinstance(found, dict) and not level else {}
