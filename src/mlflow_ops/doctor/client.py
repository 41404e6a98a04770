"""What leads to a server, seen by who uses it."""

from __future__ import annotations

import json
import os
import pwd
import re
import socket
import ssl
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from .patient import CREDENTIALS, Patient, version_of
from .report import Finding, Unseen, check, error, note, warning
from .tls import days, distrust, ends_soon, handshake, reach


@check("proxy", "client", after=("activation",))
def proxy(p: Patient) -> Iterator[Finding]:
    """Whether a proxy of this environment takes the requests, and brings them there."""
    if not p.proxy:
        return
    try:
        status, _, words = p.ask("/health")
        said = "" if status == 200 else f"HTTP {status} {words[:80]}"
    except OSError as refused:
        said = str(getattr(refused, "reason", refused))
    if said:
        yield error(
            f"Requests for {p.host} go to the proxy {p.proxy}, which this environment names "
            f"(HTTP_PROXY, HTTPS_PROXY), and do not arrive: {said}.",
            "MLflow's client gets no answer, or the proxy's.",
            f"Add {p.host} to NO_PROXY (and no_proxy), where the proxy is set: /etc/environment, "
            "~/.profile",
        )


@check("name", "client", after=("activation",))
def name_resolves(p: Patient) -> Iterator[Finding]:
    """Whether the server's name leads to an address."""
    p.need_no_proxy()
    try:
        socket.getaddrinfo(p.host, p.port)
    except OSError as unknown:
        yield error(
            f"The name {p.host} does not resolve here: {unknown.strerror or unknown}.",
            "No program finds the server.",
            f"getent hosts {p.host}; have it entered into the DNS, or into /etc/hosts. "
            f"Another name: {p['names_variable']} in {p.variables}",
        )


@check("connection", "client", after=("name",))
def connection(p: Patient) -> Iterator[Finding]:
    """Whether somebody listens there."""
    p.need_no_proxy()
    try:
        reach(p.host, p.port)
    except OSError as refused:
        listens = isinstance(refused, ConnectionRefusedError)
        yield error(
            f"{p.host}, port {p.port}, "
            f"{'refuses connections' if listens else f'cannot be reached: {refused}'}.",
            "The server's host is up and nobody listens." if listens
            else "A firewall or a security group is in between, or the host is down.",
            f"On the server's host: systemctl status nginx mlflow; then {p.play('doctor')}"
            if listens else f"Let this host pass to port {p.port} there: nc -vz {p.host} {p.port}",
        )  # fmt: skip


@check("certificate", "client", after=("connection",))
def certificate(p: Patient) -> Iterator[Finding]:
    """Whether the server's certificate is trusted here, is for its name, and lasts."""
    p.need_no_proxy()
    if not p.tls:
        return
    file, variable = p.server_bundle
    if file and not os.access(file, os.R_OK):
        yield error(
            f"{variable or 'The environment'} names {file}, which cannot be read here.",
            "MLflow's client trusts nobody, and stops with an error.",
            f"{p.again} writes it anew.",
        )
        return
    try:
        left, lifetime = handshake(p.host, p.port, file)
    except OSError as refused:
        yield distrust(p.uri, p.host, refused, p.server_bundle, p["names_variable"], p.again)
        return
    if p.activation.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("1", "true"):
        yield warning(
            "MLFLOW_TRACKING_INSECURE_TLS is set: certificates are not checked.",
            "Anybody in between can read passwords and change models.",
            "Take it out of the environment.",
        )
    if ends_soon(left, lifetime, p["certificate_days"]):
        yield warning(
            f"The certificate of {p.uri} has {days(left)} left.",
            "Then every client refuses the server.",
            f"{p.again} renews one of the private CA; the team's own is mlflow_tls_certificate in "
            f"{p.variables}.",
        )


@check("answer", "client", after=("proxy", "connection", "certificate"))
def answer(p: Patient) -> Iterator[Finding]:
    """Whether what answers is MLflow."""
    try:
        status, headers, words = p.ask("/health")
    except OSError as silent:
        yield error(
            f"{p.uri} does not answer: {getattr(silent, 'reason', silent)}.",
            "The server hangs, or something in between swallows what it says.",
            "On the server's host: sudo mlflow-ready; journalctl -u mlflow",
        )
        return
    if "date" in headers:
        p.skews["the server's"] = parsedate_to_datetime(headers["date"]).timestamp() - time.time()
    if status in (502, 503, 504):
        yield error(
            f"nginx answers at {p.uri}, and MLflow behind it does not (HTTP {status}).",
            "The tracking server is down, or is being started.",
            "On the tracking server's host: systemctl status mlflow. If it runs, "
            "/var/log/nginx/error.log says why nginx does not get there",
        )
    elif (status, words) != (200, "OK"):
        yield error(
            f"What answers at {p.uri} is not MLflow: HTTP {status} {' '.join(words.split())[:80]}",
            "Another program or a portal has this address, or MLflow is below another path.",
            f"Look at {p['names_variable']} in {p.variables}, and at the port.",
        )


@check("host header", "client", after=("answer",))
def host_header(p: Patient) -> Iterator[Finding]:
    """Whether the server lets itself be called by this name."""
    status, _, words = p.searched
    if status == 403 and "Invalid Host" in words:
        yield error(
            f"The server refuses the name {urlsplit(p.uri).netloc} (403 Invalid Host header).",
            "MLflow answers only to names that it knows, and nothing can be logged or read.",
            f"Add {p.host} to {p['names_variable']} in {p.variables}; then {p.again}",
        )


@check("credentials", "client", after=("host header",))
def credentials(p: Patient) -> Iterator[Finding]:
    """Whether the server accepts this person's name and password, and nobody else has them."""
    who = pwd.getpwuid(os.geteuid()).pw_name
    file = CREDENTIALS
    if file.exists() and file.stat().st_mode & 0o077:
        yield error(
            f"{file} has mode {file.stat().st_mode & 0o7777:04o}.",
            "Others on this host can read the password.",
            f"chmod 0600 {file}; then change the password",
        )
    if p.searched[0] == 401 and p.login:
        yield error(
            f"The server refuses the name and password of {who} (401).",
            "The password was changed, or the user removed.",
            f"Look at {file}, or MLFLOW_TRACKING_USERNAME and _PASSWORD; the administrator gives a "
            f"new one: mlflow_users in {p.variables}",
        )
    elif p.searched[0] == 401:
        yield note(
            f"{who} has no name and password for the server here.",
            "Whoever types them needs none; nothing behind them could be looked at.",
            "export MLFLOW_TRACKING_USERNAME=... MLFLOW_TRACKING_PASSWORD=..., or mlflow_client_"
            f"credentials in {p.variables}",
        )
    elif p.searched[0] >= 400:
        yield error(
            f"{p.uri} answers a search with HTTP {p.searched[0]}: {p.searched[2][:200]}",
            "The server is there, and does not work: its database, perhaps.",
            f"On the server's host: sudo mlflow-ready; then {p.play('doctor')}",
        )


@check("client version", "client", after=("answer",))
def client_version(p: Patient) -> Iterator[Finding]:
    """Whether client and server are of one version."""
    here = version_of(p["environment"])
    if not here:
        raise Unseen("there is no environment of these playbooks here")
    status, _, there = p.ask("/version")
    if status != 200 or not re.match(r"\d+\.\d+", there):
        raise Unseen("without a name and password the server does not tell its version")
    if here != there:
        newer = [int(word) for word in re.findall(r"\d+", here)[:2]] > [
            int(word) for word in re.findall(r"\d+", there)[:2]
        ]
        yield Finding(
            "error" if newer and here.split(".")[0] != there.split(".")[0] else "warning",
            f"This client is MLflow {here}, and the server is {there}.",
            "The client may ask for what the server does not know, such as logged models."
            if newer else "What is new in the server is not there for this client.",
            f"Set mlflow_version to {there} for this host in {p.variables}; then {p.again}",
        )  # fmt: skip


@check("presigned artifacts", "client", after=("answer",))
def presigned(p: Patient) -> Iterator[Finding]:
    """Whether this client reaches the store, if the server sends it there."""
    status, _, words = p.ask("/api/3.0/mlflow/server-info")
    if status in (401, 403):
        raise Unseen("without a name and password the server does not say how artifacts go")
    try:
        sends = bool(json.loads(words).get("multipart_downloads_enabled"))
    except ValueError:
        sends = False  # an MLflow 2, which sends nobody
    if not sends:
        return
    if not p["store"]:
        raise Unseen("the inventory does not say where the store is, to which the server sends")
    url = urlsplit(p["store"])
    host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    means = "Metrics are logged; loading a model or a picture hangs or fails."
    access = f"mlflow_artifact_access in {p.variables}"
    if host in ("localhost", "127.0.0.1", "::1") and p.host not in (
        "localhost",
        "127.0.0.1",
        "::1",
    ):
        yield error(
            f"The server sends clients to {p['store']} for artifacts, which is every host itself.",
            means,
            f"Set {access} to proxied, then {p.again}; or give the store a name: "
            "mlflow_server_s3_endpoint_url",
        )
        return
    bundle = p.bundle()
    try:
        if url.scheme == "https":
            handshake(host, port, bundle[0])
        else:
            reach(host, port)
    except ssl.SSLError as refused:
        yield distrust(p["store"], host, refused, bundle, "mlflow_server_s3_endpoint_url", p.again)
    except OSError as refused:
        yield error(
            f"The server sends clients to {p['store']} for artifacts, which this host does not "
            f"reach: {refused}.",
            means,
            f"Let this host pass to {host}, port {port}; or set {access} to proxied, and {p.again}",
        )
