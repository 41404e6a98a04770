"""What TLS, a network and clocks have to say."""

from __future__ import annotations

import socket
import ssl
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

from .report import TIMEOUT, Finding, error

DAY = 86400
SKEW = {"warning": 30, "error": 300}  # seconds; S3 refuses requests from 900 on


class Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirection, since MLflow's client does not carry a login along either."""

    def redirect_request(self, *_: Any) -> None:
        """Say no."""


def trust(bundle: str) -> ssl.SSLContext:
    """Return whom to trust, as MLflow's clients do: Python 3.13 would be stricter."""
    context = ssl.create_default_context(cafile=bundle or None)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def reach(host: str, port: int) -> None:
    """Connect to a port and hang up. Raises OSError; of several addresses, that which says most."""
    refusals: list[OSError] = []
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM):
        try:
            with socket.socket(family, kind, protocol) as plain:
                plain.settimeout(TIMEOUT)
                plain.connect(address)
                return
        except OSError as refused:
            refusals.append(refused)
    raise max(refusals, key=lambda refused: isinstance(refused, ConnectionRefusedError))


def handshake(host: str, port: int, bundle: str) -> tuple[float, float]:
    """Shake hands; return the seconds for which a server's certificate is yet good, and is in all.

    Raises OSError, of which ssl.SSLError is one.
    """
    context = trust(bundle)
    with socket.create_connection((host, port), TIMEOUT) as plain:
        with context.wrap_socket(plain, server_hostname=host) as secure:
            said = secure.getpeercert() or {}
    start, end = (ssl.cert_time_to_seconds(str(said[day])) for day in ("notBefore", "notAfter"))
    return end - time.time(), end - start


def ends_soon(left: float, lifetime: float, days: float) -> bool:
    """Tell whether a certificate is near its end, and in the last third of its life.

    One that is good for a short time is renewed often. In its last week each is near its end.
    """
    return left < max(min(days * DAY, lifetime / 3), 7 * DAY)


def days(seconds: float) -> str:
    """Return a time in days, for people."""
    number = int(seconds // DAY)
    return "1 day" if number == 1 else f"{number} days"


def distrust(
    address: str, host: str, refused: OSError, bundle: tuple[str, str], variable: str, again: str
) -> Finding:
    """Return what a refused handshake means, and which variable or command mends it."""
    file, named_by = bundle
    means = "MLflow's client refuses the server, and nothing can be logged or read."
    if isinstance(refused, ssl.SSLCertVerificationError):
        said = refused.verify_message.rstrip(".")
        if refused.verify_code in (62, 64):  # OpenSSL: another host's name, another address
            return error(
                f"The certificate of {address} is not for the name {host}: {said}.", means,
                f"Use a name that it has; or have it made for {host} ({variable}), then {again}.",
            )  # fmt: skip
        if refused.verify_code in (47, 48):  # OpenSSL: outside of what the CA may sign for
            return error(
                f"The CA of {address} may not sign for {host}, by its certificate that is trusted "
                f"here: {said}.", means,
                f"{again} gives this host the CA's newest certificate; another computer needs "
                "/etc/ssl/mlflow/ca.pem of the gateway.",
            )  # fmt: skip
        if refused.verify_code == 10:
            return error(
                f"The certificate of {address} has expired.", means,
                f"{again} makes a new one; one of the team's own is in mlflow_tls_certificate.",
            )  # fmt: skip
        if refused.verify_code == 9:
            return error(
                f"The certificate of {address} is not valid yet.", means,
                "Look at the clocks of both hosts: date -u",
            )  # fmt: skip
        trusted = f"{file}, which {named_by} names" if named_by else file or "this host's own store"
        return error(
            f"The CA of {address} is not trusted here ({said}): it is not in {trusted}.", means,
            f"{again} writes the CA's certificate there, and mlflow_client_ca says which; "
            "outside of the activation: export REQUESTS_CA_BUNDLE=<a PEM file that has it>",
        )  # fmt: skip
    if isinstance(refused, ssl.SSLError) and not isinstance(refused, ssl.SSLEOFError):
        return error(
            f"What answers at {address} speaks no TLS ({refused}).", means,
            f"Look at {variable}: is it http://, or another port?",
        )  # fmt: skip
    return error(
        f"{address} hangs up, or is silent, where TLS should begin: {refused}.", means,
        "What is behind that port may be down: the playbook doctor looks at its host as well",
    )  # fmt: skip


def skew(seconds: float, whose: str) -> Iterator[Finding]:
    """Tell whether this host's clock and another differ too much."""
    for severity in "error", "warning":
        if abs(seconds) > SKEW[severity]:
            yield Finding(
                severity,
                f"This host's clock and {whose} differ by {abs(seconds):.0f} s "
                f"(this one is {'behind' if seconds > 0 else 'ahead'}; it says "
                f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} UTC).",
                "Runs get wrong times; S3 refuses requests that are 15 minutes off, and "
                "certificates may seem not to be valid yet, or any more.",
                "On the host that is wrong: timedatectl set-ntp true (Debian: apt install "
                "systemd-timesyncd)",
            )
            return
