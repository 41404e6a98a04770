"""Say of each of mlflow_internals whether the MLflow of this Python has it: one JSON object.

For an environment's Python, with the package on PYTHONPATH, in an empty directory. The keys are as
`key` makes them, the values what is wrong, or ''. Databases are made in SQLite files.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import json
import sqlite3
from collections import defaultdict
from pathlib import Path
from typing import Any

from mlflow_ops import mlflow_internals as internals
from mlflow_ops.mlflow_internals import NAMES, SCHEMAS, STATEMENTS, Name, Statement, has

DATABASES = {kind: f"{kind}.db" for kind in SCHEMAS}


def key(thing: Name[Any] | Statement) -> str:
    """Return what one is called in the answer, and in the test's name."""
    if isinstance(thing, Statement):
        return f"{thing.schema}: {' '.join(thing.split())}"
    return f"{thing.where} {thing.written}".strip()


def known() -> dict[str, Name[Any] | Statement]:
    """Return all names and statements by their keys."""
    things: list[Name[Any] | Statement] = [*NAMES, *STATEMENTS]
    return {key(thing): thing for thing in things}


@functools.cache
def instance(of: str) -> Any:
    """Return an instance of a class of MLflow's, for what its __init__ alone makes; or None."""
    made = {
        internals.STORE.where: (f"sqlite:///{DATABASES['tracking']}", "artifacts"),
        internals.REGISTRY.where: (f"sqlite:///{DATABASES['tracking']}",),
        internals.S3_REPOSITORY.where: ("s3://bucket/prefix",),
    }.get(of)
    return by_where(of).get()(*made) if made else None


def by_where(where: str) -> Name[Any]:
    """Return a name by its place."""
    return next(name for name in NAMES if name.where == where)


def look(name: Name[Any]) -> Any:
    """Return what a name stands for. Raises ImportError or AttributeError."""
    if ":" not in name.where:
        return importlib.import_module(name.where)
    holder = instance(name.where.rpartition(".")[0])
    return name.get() if holder is None else getattr(holder, name.where.rpartition(".")[2])


@functools.cache
def looked_up(module: str) -> set[str]:
    """Return the names that a module's functions look up in it when they run."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    tree = ast.parse(inspect.getsource(importlib.import_module(module)))
    return {
        node.id
        for function in ast.walk(tree)
        if isinstance(function, functions)
        for statement in function.body
        for node in ast.walk(statement)
        if isinstance(node, ast.Name)
    }


def attribute(thing: Any, name: str, where: str) -> bool:
    """Tell whether the instances of a class have an attribute."""
    message = getattr(thing, "DESCRIPTOR", None)
    return (
        hasattr(thing, name)
        or name in getattr(thing, "__annotations__", ())
        or name in getattr(message, "fields_by_name", ())
        or hasattr(instance(where), name)
    )


def wrong_name(name: Name[Any], version: str) -> str:
    """Return what is wrong with a name; '' for nothing."""
    try:
        thing = look(name)
        if name.written and name.written not in inspect.getsource(thing):
            raise AttributeError(f"{name.where} has no {name.written!r} in its source")
    except (ImportError, AttributeError) as error:
        return str(error) if has(version, name.since) else ""
    if not has(version, name.since):
        return f"it is there already, before {name.since}"
    if name.value and not name.written and thing != name.value:
        return f"it is {thing!r}"
    if name.call:
        places, others = name.call
        try:
            signature = inspect.signature(thing)
            signature.bind(*[None] * places, **dict.fromkeys(others))
        except TypeError as error:
            return f"it is called otherwise: {error}; it has {signature}"
        except ValueError:
            pass  # of protobuf's: it has no signature
        else:  # what merely goes into its **options, it does not know
            if not {*others} <= {*signature.parameters}:
                return f"it is called otherwise: it has {signature}"
    if missing := [part for part in name.attributes if not attribute(thing, part, name.where)]:
        return f"it has no {', '.join(missing)}"
    last = name.where.rpartition(":")[2]
    if unread := [module for module in name.read_by if last not in looked_up(module)]:
        return f"no function of {', '.join(unread)} looks it up: what replaces it has no effect"
    return ""


def wrong_statement(statement: Statement, version: str) -> str:
    """Return what is wrong with a statement; '' for nothing."""
    values: Any = defaultdict(str) if ":" in statement else [""] * statement.count("?")
    connection = sqlite3.connect(DATABASES[statement.schema])
    due = has(version, statement.since, statement.until)
    found = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    there = bool(connection.execute(found, [statement.table]).fetchall())
    try:
        if there:
            connection.execute(f"EXPLAIN {statement}", values)
    except sqlite3.OperationalError as error:
        return str(error)
    finally:
        connection.close()
    if due == there:
        return ""
    between = f"since {statement.since or 'ever'}, until {statement.until or 'now'}"
    return f"table {statement.table} is {'' if there else 'not '}there, and should be {between}"


def wrong_schema(kind: str) -> str:
    """Make a database by MLflow's migrations; return what is wrong with how we read them, or ''."""
    from mlflow_ops.database import schema

    uri = f"sqlite:///{Path(DATABASES[kind]).absolute()}"
    try:
        schema.create(kind, uri)
        found = schema.status(kind, uri)
    except (Exception, SystemExit) as error:  # whatever MLflow raises
        return f"{type(error).__name__}: {error}"
    return "" if found["state"] == "current" else f"a new database is {found}"


def main() -> None:
    """Print what is wrong with each."""
    version = internals.VERSION.get()
    answer = {kind: wrong_schema(kind) for kind in SCHEMAS}
    answer |= {key(name): wrong_name(name, version) for name in NAMES}
    answer |= {key(statement): wrong_statement(statement, version) for statement in STATEMENTS}
    Path("answer.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
