"""The doctor on scenario 3: what has to do with TLS, passwords, PostgreSQL and S3.

Each thing is broken for real, named, and taken back; molecule/scenario2 has the others.
"""

import dataclasses
from collections.abc import Callable, Iterator

import pytest
from consultation import Case, Finding, Look, consult, findings, see_named, serious
from hosts import Lab

SERVER, CLIENT = "mlflow.example.com", "login1.example.com"
Again = Callable[[Case], list[Finding]]
ENV = "/etc/mlflow/server.env"
PEM = "/etc/ssl/mlflow/mlflow.pem"
SITE = "/etc/nginx/conf.d/mlflow.conf"
BUNDLE = "/opt/mlflow/client/ca-bundle.pem"
LOGIN = "~ada/.mlflow/credentials"

# Puts a file aside, and back with its times.
ASIDE = "cp -a {0} /run/aside; "
BACK = "cp -a /run/aside {0}; rm /run/aside"
SQL = "runuser -u postgres -- psql -qd mlflow_auth -c '{0}'"


def settings(change: str) -> tuple[str, str]:
    """Return how the service's settings are changed by a command of sed, and back."""
    return ASIDE.format(ENV) + f"sed -i '{change}' {ENV}", BACK.format(ENV)


def certificate(days: int, name: str = SERVER) -> tuple[str, str]:
    """Return how the gateway gets another certificate of the private CA, and its own back."""
    return (
        ASIDE.format(PEM) + f"echo subjectAltName=DNS:{name} > /run/names\n"
        f"openssl req -new -key {PEM[:-4]}.key -subj /CN={name} | openssl x509 -req -days {days} "
        "-CA /etc/ssl/mlflow-ca/ca.pem -CAkey /etc/ssl/mlflow-ca/ca.key -set_serial 7 "
        f"-extfile /run/names -out /run/fresh\ncat /run/fresh > {PEM}; rm /run/names /run/fresh; "
        "systemctl reload nginx; sleep 0.5",
        BACK.format(PEM) + "; systemctl reload nginx; sleep 0.5",
    )


# In front of the store: refuses what older stores do not know, and passes on all else.
OLD_STORE = """cat > /etc/nginx/conf.d/old-store.conf <<'END_OF_SITE'
server {
    listen 127.0.0.1:8399;
    client_max_body_size 0;
    if ($http_x_amz_sdk_checksum_algorithm) { return 411; }
    location / { proxy_pass http://127.0.0.1:8333; proxy_set_header Host $http_host; }
}
END_OF_SITE
systemctl reload nginx; sleep 0.5
"""

CASES = {
    "a wrong S3 secret": Case(
        ["the secret does not belong to the key", "mlflow_server_s3_secret_key"],
        *settings("s/^AWS_SECRET_ACCESS_KEY=.*/AWS_SECRET_ACCESS_KEY=wrong/"),
    ),
    "an S3 key that is no more": Case(
        ["the store does not know this key", "mlflow_server_s3_access_key"],
        *settings("s/^AWS_ACCESS_KEY_ID=.*/AWS_ACCESS_KEY_ID=NOBODY/"),
    ),
    "a store without checksums": Case(
        ["does not know AWS' newer checksums", "mlflow_server_s3_checksums: when_required"],
        OLD_STORE + settings("s/127.0.0.1:8333/127.0.0.1:8399/")[0],
        f"rm /etc/nginx/conf.d/old-store.conf; systemctl reload nginx; {BACK.format(ENV)}",
    ),
    "a store that is down": Case(
        ["Nobody listens at 127.0.0.1, port 8398", "does the store run?"],
        *settings("s/127.0.0.1:8333/127.0.0.1:8398/"),
    ),
    "more connections than PostgreSQL accepts": Case(
        ["connections (max_connections), and MLflow may open", "mlflow_server_database_pool_size"],
        *settings("s/^MLFLOW_SQLALCHEMYSTORE_POOL_SIZE=.*/MLFLOW_SQLALCHEMYSTORE_POOL_SIZE=900/"),
    ),
    "a role with a limit": Case(
        ["accepts 30 connections (CONNECTION LIMIT of the role)"],
        SQL.format("ALTER ROLE mlflow CONNECTION LIMIT 30"),
        SQL.format("ALTER ROLE mlflow CONNECTION LIMIT -1"),
    ),
    "a database that is not there": Case(
        ["tracking database", 'local "none" "mlflow" peer', "mlflow_server_database_name"],
        *settings("/^MLFLOW_BACKEND_STORE_URI/s,/mlflow?,/none?,"),
    ),
    "an older schema of the users": Case(
        ["The auth database has schema 0", "playbooks/upgrade.yml"],
        SQL.format("UPDATE alembic_version_auth SET version_num = overlay(version_num "
                   "PLACING $$0$$ FROM 1 FOR 0)"),
        SQL.format("UPDATE alembic_version_auth SET version_num = substr(version_num, 2)"),
    ),
    "a certificate near its end": Case(
        [f"The certificate {PEM} has 2 days left", "mlflow_tls_certificate", "renew.yml"],
        *certificate(3),
        severity="warning",
    ),
    "a certificate near its end, as a client sees it": Case(
        [f"The certificate of https://{SERVER} has 2 days left", "renews"],
        *certificate(3),
        kind="client", severity="warning", elsewhere=True,
    ),
    "a certificate that is over": Case(
        [f"The certificate of https://{SERVER} has expired"],
        *certificate(-1),
        kind="client", elsewhere=True,
    ),
    "a certificate for another name": Case(
        [f"is not for the name {SERVER}", "mlflow_public_aliases"],
        *certificate(99, f"other.{SERVER}"),  # for which the CA may sign
        kind="client", elsewhere=True,
    ),
    "a key for all to read": Case(
        [f"{PEM[:-4]}.key has mode 0644", "chmod 0600"],
        f"chmod 644 {PEM[:-4]}.key",
        f"chmod 600 {PEM[:-4]}.key",
    ),
    "a gateway that is down": Case(
        ["nginx.service does not run; it is inactive", "Its last words", "systemctl start nginx"],
        "systemctl stop nginx",
        "systemctl start nginx",
    ),
    "a gateway that is down, as a client sees it": Case(
        [f"{SERVER}, port 443, refuses connections", "systemctl status nginx"],
        "systemctl stop nginx",
        "systemctl start nginx",
        kind="client", elsewhere=True,
    ),
    "a server that nginx does not reach": Case(
        ["MLflow behind it does not (HTTP 502)", "systemctl status mlflow"],
        "chgrp root /run/mlflow",
        "chgrp www-data /run/mlflow",
        kind="client", elsewhere=True,
    ),
    "an untrusted CA": Case(
        [f"The CA of https://{SERVER} is not trusted here", BUNDLE, "scenario3.yml"],
        ASIDE.format(BUNDLE) + f"cat /etc/ssl/certs/ca-certificates.crt > {BUNDLE}",
        BACK.format(BUNDLE),
        kind="client",
    ),
    "a bundle that is gone": Case(
        [f"names {BUNDLE}, which cannot be read"],
        f"mv {BUNDLE} {BUNDLE}.away",
        f"mv {BUNDLE}.away {BUNDLE}",
        kind="client",
    ),
    "no activation": Case(
        ["There is no /opt/mlflow/client/mlflow.env", "scenario3.yml"],
        "mv /opt/mlflow/client /opt/mlflow/away",
        "mv /opt/mlflow/away /opt/mlflow/client",
        kind="client",
    ),
    "a password that was changed": Case(
        ["refuses the name and password of ada (401)", "mlflow_users"],
        ASIDE.format(LOGIN) + f"sed -i 's/^mlflow_tracking_password.*/&x/' {LOGIN}",
        BACK.format(LOGIN),
        kind="client",
    ),
    "a password for all to read": Case(
        [".mlflow/credentials has mode 0644", "chmod 0600"],
        f"chmod 644 {LOGIN}",
        f"chmod 600 {LOGIN}",
        kind="client",
    ),
    "artifacts from a store that clients do not reach": Case(
        ["sends clients to http://127.0.0.1:8333", "mlflow_artifact_access", "proxied"],
        ASIDE.format(SITE) + f"sed -i '/sub_filter /d' {SITE}; systemctl reload nginx; sleep 0.5",
        BACK.format(SITE) + "; systemctl reload nginx",
        kind="client", elsewhere=True,
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def looks(lab: Lab) -> dict[str, Look]:
    """The looks of the playbook, which found nothing wrong: at the server, and from a client."""
    found = consult(lab.command("doctor.yml"))
    assert {(look.host, look.kind) for look in found} >= {(SERVER, "host"), (CLIENT, "client")}
    for look in found:
        assert serious(look.report["findings"]) == []
    wanted = {"host": SERVER, "client": CLIENT}
    return {look.kind: look for look in found if look.host == wanted[look.kind]}


@pytest.fixture(scope="module")
def look(lab: Lab, looks: dict[str, Look]) -> Iterator[Again]:
    """Look again as the playbook did, but as Ada, at something that is broken."""

    def again(case: Case) -> list[Finding]:
        host = SERVER if case.kind == "host" else CLIENT
        if case.elsewhere:
            whole = dataclasses.replace(case, harm="true", mend="true")
            lab.root(SERVER, case.harm)
            try:
                return findings(shells[host], looks[case.kind], whole, "ada")
            finally:
                lab.root(SERVER, case.mend)
        return findings(shells[host], looks[case.kind], case, "ada")

    shells = {
        host: lambda script, host=host: lab.ssh(host, script, user="ops")
        for host in (SERVER, CLIENT)
    }
    yield again
    for kind in looks:
        assert serious(again(Case(kind=kind))) == []


def test_ada_gets_a_clean_bill(look: Again) -> None:
    assert look(Case(kind="client")) == []


@pytest.mark.parametrize("name", CASES)
def test_it_names(name: str, look: Again) -> None:
    see_named(look(CASES[name]), CASES[name])
