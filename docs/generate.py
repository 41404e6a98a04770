"""Write the variable tables of the roles' README files, and docs/variables.md, from the specs.

`python docs/generate.py` writes, `--check` only says what is out of date (exit code 1).
The one source is each role's meta/argument_specs.yml, which Ansible itself checks at run time.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
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
