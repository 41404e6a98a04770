"""What a server that leads lets others know, in the database that all share, while it switches it.

They wait for how it ends (rollout.py). A table of ours has a row for each switch; no version of
MLflow looks at it, and what is loaded over it may take it along: the leader says it again then.
"""

from __future__ import annotations

from . import connect, tables

TABLE = "mlflow_switch"


def tell(uri: str, token: str, word: str) -> None:
    """Say where the switch of a token is. Raises the driver's error."""
    with connect(uri) as connection:
        columns = "token text PRIMARY KEY, word text NOT NULL"
        connection.execute(f"CREATE TABLE IF NOT EXISTS {TABLE} ({columns})")
        connection.execute(
            f"INSERT INTO {TABLE} VALUES (%s, %s)"  # noqa: S608 a constant
            " ON CONFLICT (token) DO UPDATE SET word = excluded.word",
            [token, word],
        )


def told(uri: str, token: str) -> str:
    """Return where the switch of a token is, or ''. Raises the driver's error."""
    with connect(uri) as connection:
        if TABLE not in tables(connection):
            return ""
        query = f"SELECT word FROM {TABLE} WHERE token = %s"  # noqa: S608 a constant
        row = connection.execute(query, [token]).fetchone()
        return str(row[0]) if row else ""
