"""Before a start: let the databases follow the secrets that the service's settings hold.

Settings and databases share secrets: the password of PostgreSQL's role, that of the administrator,
and the keys that stored credentials are encrypted with. What is in the settings counts: each start
brings the other half along, so that neither a changed inventory, nor a rotation that was cut off,
nor a database that was restored leaves the service with half of a pair. And a database of another
MLflow stops the start, with a sentence; see database/schema.py. So does a switch that has the data.

While secrets are rotated, MLFLOW_ROTATION (see rotation.py) holds the old and the new ones. Without
it a password that PostgreSQL refuses, or a credential of another key, stays as it is.

Run with the environment's Python, as the service's user; or as root with --user and her name: then
it reads the administrator's password, which root alone may read, and becomes that user before it
looks at anything else. With --opened nothing is changed: it prints how many stored credentials
there are, and how many of them the keys of the settings open.
"""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from .. import mlflow_internals as internals
from .. import rollout
from ..database import SQLITE, connect, tables
from ..database.schema import refusal, status
from ..settings import (
    authentication,
    become,
    databases,
    read_settings,
    rotation,
    with_password,
)

PASSPHRASE, VERSION = "MLFLOW_CRYPTO_KEK_PASSPHRASE", "MLFLOW_CRYPTO_KEK_VERSION"
WEBHOOKS = "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"


class Database:
    """SQLite or PostgreSQL, asked alike."""

    def __init__(self, uri: str) -> None:
        self.sqlite = uri.startswith(SQLITE)
        self.connection: Any = sqlite3.connect(uri[len(SQLITE) :]) if self.sqlite else connect(uri)

    def run(self, statement: str, *values: Any) -> list[Any]:
        """Run a statement, in which `?` stands for a value; return the rows it answers."""
        cursor = self.connection.execute(
            statement if self.sqlite else statement.replace("?", "%s"), values
        )
        return list(cursor.fetchall()) if cursor.description else []

    def has(self, table: str) -> bool:
        """Tell whether there is a table; no MLflow has all of another."""
        if not self.sqlite:
            return table in tables(self.connection)
        return (table,) in self.run("SELECT name FROM sqlite_master WHERE type = 'table'")


@contextlib.contextmanager
def database(uri: str) -> Iterator[Database]:
    """Give a database, whose changes are kept if all went well."""
    found = Database(uri)
    with contextlib.closing(found.connection), found.connection:
        yield found


def change_own_password(uri: str, others: list[str]) -> None:
    """Give PostgreSQL's role the password of its address, where it still has one of the others."""
    import psycopg
    from psycopg import sql

    with contextlib.suppress(psycopg.OperationalError):  # which `status` puts into words
        connect(uri).close()
        return
    parts = urlsplit(uri)
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    for other in others:
        try:
            role = connect(with_password(uri, other))
        except psycopg.OperationalError:
            continue
        with role:
            # The server gets what it keeps of a password, and never the password.
            kept = role.pgconn.encrypt_password(password.encode(), user.encode()).decode()
            role.execute(sql.SQL("ALTER ROLE CURRENT_USER PASSWORD {}").format(sql.Literal(kept)))
        print(f"PostgreSQL's role {user} has the password of the settings now")
        return


def follow_administrator(asked: dict[str, str]) -> None:
    """Give the administrator the password of the settings, and make her where she is not.

    As MLflow does, and without it: it takes seconds to load, in which nobody is served; and so it
    needs no password at its start, and its processes none in a file that they may read.
    """
    from werkzeug.security import check_password_hash, generate_password_hash

    name, password = asked["admin_username"], asked["admin_password"]
    with database(asked["database_uri"]) as users:
        found = users.run(internals.USER_FOUND, name)
        if not password or (found and found[0][1] and check_password_hash(found[0][0], password)):
            return
        change = internals.USER_CHANGED if found else internals.USER_MADE
        users.run(change, generate_password_hash(password), True, name)
    print(f"{name} has the password of the settings now")


# stored credentials ------------------------------------------------------------------------------
# Those of the AI gateway: each is encrypted with a key of its own, and that is wrapped with the
# passphrase. MLflow's `crypto rotate-kek` does this too, but takes the passphrase as an argument,
# and knows no way back. Those of webhooks: MLflow has no command for them.


def wrap_anew(tracking: Database, present: dict[str, str], others: list[dict[str, str]]) -> int:
    """Have the settings' passphrase open what another opens; return how many credentials."""
    from mlflow.exceptions import MlflowException

    kek, rewrap = internals.KEK.get(), internals.REWRAP.get()
    new, changed = kek(present[PASSPHRASE], int(present.get(VERSION, 1))), 0
    for other in others:
        version = int(other.get(VERSION, 1))
        if version == new.kek_version:
            continue
        old = kek(other[PASSPHRASE], version)
        for secret, encrypted, wrapped in tracking.run(internals.SECRETS_OF, version):
            try:
                kept = rewrap(bytes(encrypted), bytes(wrapped), old, new)
            except MlflowException:  # its key is long lost
                print(f"The stored credential {secret} could not be read, and cannot now")
                continue
            tracking.run(internals.SECRET_REWRAPPED, kept.wrapped_dek, new.kek_version, secret)
            changed += 1
    return changed


def encrypt_anew(tracking: Database, present: str, others: list[str]) -> int:
    """Have the settings' key open the webhooks' secrets that another opens; return how many."""
    from cryptography.fernet import Fernet, InvalidToken, MultiFernet

    changed, chain = 0, MultiFernet([Fernet(key) for key in [present, *others]])
    for webhook, secret in tracking.run(internals.WEBHOOKS):
        with contextlib.suppress(InvalidToken):
            Fernet(present).decrypt(secret)
            continue
        with contextlib.suppress(InvalidToken):
            fresh = chain.rotate(secret.encode()).decode()
            tracking.run(internals.WEBHOOK_CHANGED, fresh, webhook)
            changed += 1
    return changed


def follow_keys(uri: str, present: dict[str, str], others: list[dict[str, str]]) -> None:
    """Have the settings' keys open all that one of the others opens; all of it, or nothing."""
    changed = 0
    with database(uri) as tracking:
        if tracking.has(internals.WRAPPED_KEYS.table):
            changed += wrap_anew(tracking, present, others)
        if WEBHOOKS in present and tracking.has(internals.WEBHOOKS.table):
            known = [other[WEBHOOKS] for other in others if WEBHOOKS in other]
            changed += encrypt_anew(tracking, present[WEBHOOKS], known)
    if changed:
        print(f"{changed} stored credentials have the keys of the settings now")


def opened(uri: str, keys: dict[str, str]) -> tuple[int, int]:
    """Return how many stored credentials there are, and how many of them the keys open."""
    results: list[bool] = []

    def attempt(open_it: Any, *sealed: Any) -> None:
        try:
            open_it(*sealed)
        except Exception:  # MLflow's and cryptography's
            results.append(False)
        else:
            results.append(True)

    with database(uri) as tracking:
        if tracking.has(internals.WRAPPED_KEYS.table):
            kek = internals.KEK.get()(keys[PASSPHRASE], int(keys.get(VERSION, 1))).get_kek()
            for (wrapped,) in tracking.run(internals.WRAPPED_KEYS):
                attempt(internals.UNWRAP.get(), bytes(wrapped), kek)
        if tracking.has(internals.WEBHOOKS.table):
            from cryptography.fernet import Fernet

            for _, secret in tracking.run(internals.WEBHOOKS):
                attempt(lambda sealed: Fernet(keys[WEBHOOKS]).decrypt(sealed), secret)
    return len(results), sum(results)


def main() -> int:
    """Settle; return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--user", default="")
    parser.add_argument("--opened", action="store_true")
    asked = parser.parse_args()
    if asked.user and (why := rollout.closed()):
        print(why, file=sys.stderr)
        return 1
    settings = read_settings()
    if asked.user:
        become(asked.user, settings)
    uris, sides = databases(settings), rotation(settings)
    if asked.opened:
        print(*opened(uris["tracking"], settings))
        return 0
    if others := [side["database_password"] for side in sides if "database_password" in side]:
        change_own_password(uris["tracking"], others)
    states = [status(kind, uri) for kind, uri in uris.items()]
    reasons = [refusal(state) for state in states]
    silent = [state["error"] for state in states if state["state"] == "unreachable"]
    if silent and sides:  # at other times the server itself waits for it
        reasons.append(f"While secrets are rotated the database must answer: {silent[0]}")
    if any(reasons):
        print(" ".join(filter(None, reasons)), file=sys.stderr)
        return 1
    if not silent:
        if users := authentication(settings):
            follow_administrator(users)
        if keys := [side["secret_keys"] for side in sides if "secret_keys" in side]:
            follow_keys(uris["tracking"], settings, keys)
    return 0
