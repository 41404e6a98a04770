"""Write the variable tables of the roles' README files, docs/variables.md and docs/security.md.

`python docs/generate.py` writes, `--check` only says what is out of date (exit code 1).
The one source of variables is each role's meta/argument_specs.yml, which Ansible itself checks at
run time. security.md comes from security.yml, and from the guard's table.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
TABLES = "<!-- tables -->"  # up to the end of security.md
START, END = "<!-- variables -->", "<!-- /variables -->"


def sentence(description: str | list[str]) -> str:
    """Return a spec's description as one line of Markdown."""
    text = description if isinstance(description, str) else " ".join(description)
    for mark in ("C(", "V("):
        while mark in text:
            head, _, rest = text.partition(mark)
            code, _, tail = rest.partition(")")
            text = f"{head}`{code}`{tail}"
    return text.replace("|", "\\|").replace("<", "&lt;")


def default(option: dict[str, Any]) -> str:
    """Return how a table shows an option's default."""
    if option.get("required"):
        return "required"
    if "default" not in option:
        return ""
    value = option["default"]
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{shown}`".replace("|", "\\|") if shown else "empty"


def table(options: dict[str, Any]) -> str:
    """Return the Markdown table of an entry point's options, in the spec's order."""
    rows = ["| variable | type | default | what it is |", "|---|---|---|---|"]
    for name, option in options.items():
        kind = option.get("type", "str")
        if "choices" in option:
            kind = " or ".join(f"`{choice}`" for choice in option["choices"])
        rows.append(
            f"| `{name}` | {kind} | {default(option)} | {sentence(option['description'])} |"
        )
    return "\n".join(rows)


def role_table(role: Path) -> str:
    """Return the tables of all entry points of a role."""
    specs = yaml.safe_load((role / "meta/argument_specs.yml").read_text())["argument_specs"]
    parts = []
    for entry, spec in specs.items():
        # The entry point `preflight` takes what `main` takes.
        if entry != "preflight" and (options := spec.get("options")):
            heading = "" if entry == "main" else f"With `tasks_from: {entry}`:\n\n"
            parts.append(heading + table(options))
    return "\n\n".join(parts)


def rows(heading: list[str], lines: list[list[str]]) -> str:
    """Return a Markdown table."""
    every = [heading, ["---"] * len(heading), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in every)


def code(text: str) -> str:
    """Return text as Markdown shows code in a table."""
    return "`{}`".format(text.replace("|", "\\|"))


def families() -> dict[str, list[str]]:
    """Return the guard's families of routes by heading, and of each who may use it."""
    found: dict[str, list[str]] = {}
    heading = ""
    for line in (ROOT / "src/mlflow_ops/server/guard_routes.txt").read_text().splitlines():
        if line.startswith("# ---"):
            heading = re.split(r"\. ?|\. \(", line.removeprefix("# --- "))[0]
            found[heading] = []
        elif heading and line.startswith("[") and (who := line.strip("[]")) not in found[heading]:
            found[heading].append(who)
    return found


def security() -> str:
    """Return the tables of docs/security.md.

    Raises:
        ValueError: a family of routes has no test, or a test no family.
    """
    told = yaml.safe_load((ROOT / "docs/security.yml").read_text())
    if told["routes"].keys() != families().keys():
        odd = sorted(told["routes"].keys() ^ families().keys())
        raise ValueError(f"docs/security.yml and guard_routes.txt differ: {'; '.join(odd)}.")
    sockets = [
        [
            "<br>".join(map(code, one["listens"])), code(one["unit"]),
            ", ".join(one["where"]) + (f", with {one['with']}" if "with" in one else ""),
            one["who"], code(one["test"]),
        ]
        for one in told["sockets"]
    ]  # fmt: skip
    routes = [
        [heading, "<br>".join(who), code(told["routes"][heading])]
        for heading, who in families().items()
    ]
    units = [
        [code(name), one["runs_as"], str(one["at_most"]), code(one["test"])]
        for name, one in told["units"].items()
    ]
    looser = [
        [code(name), code(f"{setting}={value}"), why]
        for name, one in told["units"].items()
        for setting, (value, why) in one.get("looser", {}).items()
    ]
    return "\n\n".join(
        [
            "## What listens",
            rows(["socket", "unit", "where", "who may use it", "a test says so"], sockets),
            "## What the server is asked",
            rows(["routes", "who may use them", "a test says so"], routes),
            "## What units are kept from",
            rows(["unit", "runs as", "exposure, at most", "measured by"], units),
            "### What is looser than the rest, and why",
            rows(["unit", "line", "why"], looser),
        ]
    )


def documents() -> dict[Path, str]:
    """Return every generated document with the text that it should have.

    Raises:
        ValueError: a role's README.md has no place for its table.
    """
    result = {}
    everything = [
        "# Variables\n\nEvery variable of every role. `make docs` writes this from the specs."
    ]
    for role in sorted(path.parent.parent for path in ROOT.glob("roles/*/meta/argument_specs.yml")):
        readme = role / "README.md"
        text = readme.read_text() if readme.is_file() else ""
        head, start, rest = text.partition(START)
        _, end, tail = rest.partition(END)
        if not (start and end):
            raise ValueError(f"{readme.relative_to(ROOT)} lacks the lines {START} and {END}.")
        result[readme] = f"{head}{START}\n{role_table(role)}\n{END}{tail}"
        everything.append(f"## {role.name}\n\n{role_table(role)}")
    page = ROOT / "docs/security.md"
    head, start, _ = page.read_text().partition(TABLES)
    result[page] = f"{head}{start}\n{security()}\n"
    result[ROOT / "docs/variables.md"] = "\n\n".join(everything) + "\n"
    return result


def main() -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, say what is old")
    check = parser.parse_args().check
    old = [
        (path, text)
        for path, text in documents().items()
        if not path.is_file() or path.read_text() != text
    ]
    for path, text in old:
        if not check:
            path.write_text(text)
        print(f"{path.relative_to(ROOT)}: {'out of date, run `make docs`' if check else 'written'}")
    return 1 if check and old else 0


if __name__ == "__main__":
    sys.exit(main())
