"""Whether MLflow could work with a PostgreSQL database; and if not, which variable to change."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from .. import remedies
from . import WRONG_PASSWORD, refused, tables

# Which variable names the database, with PostgreSQL.
NAMES = {"tracking": "mlflow_server_database_name", "auth": "mlflow_server_auth_database"}

# What the driver says when a connection fails, and what to do. The first counts. It is libpq, which
# speaks English in a process that sets no language.
REMEDIES = {
    "failed to resolve host|could not translate host name": (
        "the name {host} does not resolve there. Set mlflow_server_database_host to a name that it "
        "knows (getent hosts {host}), or to an address."
    ),
    "Connection refused": (
        "{host} refuses connections on port {port}. Set mlflow_server_database_host and "
        "mlflow_server_database_port to where PostgreSQL listens; or have it started, with "
        "listen_addresses = '*'."
    ),
    "timeout expired|[Tt]imed out|No route to host|Network is unreachable": (
        "{host} does not answer on port {port}. Let firewalls and security groups pass this host, "
        "or set mlflow_server_database_host and mlflow_server_database_port."
    ),
    "on socket .*No such file": (
        "there is no PostgreSQL at the Unix socket {host}/.s.PGSQL.{port}. Start it, or set "
        "mlflow_server_database_host (a host's name, or the socket's directory) and "
        "mlflow_server_database_port."
    ),
    "on socket .*Permission denied": (
        "this user may not enter {host}, the directory of the Unix socket "
        "(mlflow_server_database_host)."
    ),
    "root certificate file .* does not exist|could not read root certificate": (
        "mlflow_server_database_ca is {ca}, and no file there that this user can read holds "
        "certificates in PEM. Set it to one."
    ),
    "weak sslmode": (
        "the driver goes by the system's CAs only with a check of the host's name. Set "
        "mlflow_server_database_sslmode: verify-full, or mlflow_server_database_ca to a PEM file."
    ),
    "certificate verify failed": (
        "its certificate is not signed by a CA of mlflow_server_database_ca ({ca}), or has "
        "expired. Set it to a PEM file with the CA's certificate."
    ),
    "does not match host name|could not get server's host name": (
        "its certificate is not for the name {host}: {said}. Set mlflow_server_database_host to a "
        "name that the certificate has, or have it made for {host}."
    ),
    "server does not support SSL": (
        "it offers no TLS, and mlflow_server_database_sslmode is {sslmode}. Have TLS turned on "
        "there; or, where the network is trusted, set mlflow_server_database_sslmode: disable."
    ),
    "wrong version number|invalid response to SSL negotiation|expected authentication request": (
        "what answers at {host}:{port} is not PostgreSQL, or speaks no TLS 1.2. Set "
        "mlflow_server_database_host and mlflow_server_database_port."
    ),
    "no password supplied": (
        'it wants a password of user "{user}". Set mlflow_server_database_password.'
    ),
    "server closed the connection unexpectedly": (
        "{host}:{port} hangs up. Set mlflow_server_database_host and mlflow_server_database_port; "
        "a proxy or firewall in between may be the cause too."
    ),
}

# What PostgreSQL itself refuses a connection with, in whatever language: SQLSTATE, the routine that
# says so, and how it was asked: over its Unix socket, without TLS, or with it.
REFUSALS = {
    f"^{WRONG_PASSWORD}": (
        'it does not accept this password of user "{user}". Set mlflow_server_database_password or '
        "mlflow_server_database_user."
    ),
    "^28000 auth_failed local": (
        'the Unix socket admits system user and role of one name, and the role is "{user}". Set '
        "mlflow_server_database_user to the value of mlflow_server_user."
    ),
    "^28000 ClientAuthentication local": (
        'on its Unix socket it does not admit user "{user}" to database "{database}". Set {name} '
        "or mlflow_server_database_user; or have the DBA add to pg_hba.conf: "
        'local "{database}" "{user}" peer'
    ),
    "^28000 ClientAuthentication plain": (
        "it does not admit this host, this user or a connection without TLS: {said}. Set "
        "mlflow_server_database_sslmode: verify-full; or have the DBA add a line to pg_hba.conf."
    ),
    "^28000 (ClientAuthentication|auth_failed)": (
        "it does not admit this host and user: {said}. Have the DBA add to pg_hba.conf: "
        'hostssl "{database}" "{user}" <address of this host>/32 scram-sha-256 (/128 for IPv6)'
    ),
    "^28000": (
        'it has no user "{user}" who may log in: {said}. Set mlflow_server_database_user, or have '
        'the DBA run: CREATE ROLE "{user}" LOGIN; (ALTER ROLE "{user}" LOGIN; where it is there), '
        'and set its password with: \\password "{user}"'
    ),
    "^3D000": (
        'it has no database "{database}". Set {name}, or have the DBA run: '
        'CREATE DATABASE "{database}" OWNER "{user}" ENCODING \'UTF8\' TEMPLATE template0;'
    ),
    "^42501": (
        'user "{user}" may not connect to database "{database}". Have the DBA run: '
        'GRANT CONNECT ON DATABASE "{database}" TO "{user}";'
    ),
    "^53300": (
        "all its connections are in use: {said}. Have the DBA raise the limit; or lower "
        "mlflow_server_workers, mlflow_server_database_pool_size or "
        "mlflow_server_database_max_overflow."
    ),
    "^(57P0|55000)": "{said}. Run the playbook again when it is up.",
}

# How the driver lists what each address of a name gave, and what it says of one that is not there.
ATTEMPT = re.compile(r"^- host: .*, hostaddr: '[^']*': (.+(?:\n\t.*)*)", re.MULTILINE)
NOT_THERE = re.compile("[Tt]imed? ?out|No route to host|Network is unreachable|Connection refused")


class Unfit(Exception):
    """A database that answers, and with which MLflow could not work; with the remedy."""


def remedy(kind: str, uri: str, error: str) -> str:
    """Return what to do about a connection that failed: a sentence with the variable to change."""
    parts = urlsplit(uri)
    options = {name: values[0] for name, values in parse_qs(parts.query).items()}
    # Of a name that has several addresses, IPv6 and IPv4 say: what the one that answers has said.
    attempts = ATTEMPT.findall(error)
    error = next((one for one in attempts if not NOT_THERE.search(one)), error)
    # The server's own words, without how grave it finds that and where the driver found it.
    said = error.strip().splitlines()[0].rpartition(" failed: ")[2]
    facts = {
        "host": parts.hostname or options.get("host", ""),
        "port": parts.port or options.get("port", "5432"),
        "user": unquote(parts.username or ""),
        "database": parts.path.lstrip("/"),
        "name": NAMES[kind],
        "ca": options.get("sslrootcert", "system"),
        "sslmode": options.get("sslmode", ""),
        "said": re.sub(r"^\S+:  ", "", said),
    }
    found = remedies.remedy(error, REMEDIES)
    if not found and (code := refused(uri)):
        plain = options.get("sslmode") in ("disable", "prefer")
        how = "local" if not parts.hostname else "plain" if plain else "tls"
        found = remedies.remedy(f"{code} {how}", REFUSALS)
    return found.format(**facts) or f"{error} Look at the mlflow_server_database_* variables."


def check_fit(kind: str, uri: str, connection: Any, connections: dict[str, int]) -> None:
    """See that MLflow can work with a PostgreSQL database that answers. Raises Unfit if not."""
    parts = urlsplit(uri)
    user, database = unquote(parts.username or ""), parts.path.lstrip("/")
    if connection.info.server_version < 120000:
        raise Unfit(
            f"it is PostgreSQL {connection.info.server_version // 10000}, and 12 is the oldest "
            "that will do. Set mlflow_server_database_host to a newer one."
        )
    read_only, encoding, schema, may_create = connection.execute("""
        SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::bool,
               current_setting('server_encoding'), current_schema(),
               has_schema_privilege(current_schema(), 'CREATE')""").fetchone()
    if read_only:
        raise Unfit(
            "it is read-only, a replica perhaps. Set mlflow_server_database_host to the primary."
        )
    if schema is None or not (tables(connection) or may_create):
        raise Unfit(
            f'user "{user}" may not create tables in database "{database}". Have the DBA run '
            f'ALTER DATABASE "{database}" OWNER TO "{user}"; or, within that database, '
            f'GRANT USAGE, CREATE ON SCHEMA {schema or "public"} TO "{user}";'
        )
    if encoding != "UTF8" and not tables(connection):
        raise Unfit(
            f'database "{database}" has encoding {encoding}, and cannot hold every name. Set '
            f"{NAMES[kind]} to another, for which the DBA runs: "
            f"CREATE DATABASE <name> OWNER \"{user}\" ENCODING 'UTF8' TEMPLATE template0;"
        )
    if connections and kind == "tracking":
        check_connections(connection, **connections)


def check_connections(connection: Any, servers: int, workers: int, pools: int, each: int) -> None:
    """See that PostgreSQL accepts what all servers may open. Raises Unfit if it does not."""
    accepted, of_role, of_database = connection.execute("""
        SELECT current_setting('max_connections')::int
                 - current_setting('superuser_reserved_connections')::int
                 - coalesce(current_setting('reserved_connections', true), '0')::int,
               (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
               (SELECT datconnlimit FROM pg_database WHERE datname = current_database())
        """).fetchone()
    limits = {"max_connections": accepted, "CONNECTION LIMIT of the role": of_role}
    limits["CONNECTION LIMIT of the database"] = of_database
    what, limit = min(
        ((what, limit) for what, limit in limits.items() if limit is not None and limit >= 0),
        key=lambda pair: pair[1],
    )
    needed = servers * workers * pools * each
    if needed <= limit:
        return
    fitting = limit // (servers * workers * pools)
    smaller = (
        f"mlflow_server_database_pool_size and mlflow_server_database_max_overflow to {fitting} "
        "together (each 1 or more)"
        if fitting >= 2
        else f"mlflow_server_workers to {max(limit // (servers * pools * 2), 1)}, with "
        "mlflow_server_database_pool_size: 1 and mlflow_server_database_max_overflow: 1"
    )
    raise Unfit(
        f"it accepts {limit} connections ({what}), and MLflow may open {needed}: {servers} servers "
        f"x {workers} workers x {pools} pools x {each}. Have the DBA raise it; or set {smaller}."
    )
