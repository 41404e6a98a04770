"""What the server's host shows to others: one name over TLS, SSH, and nothing else."""

import json
import re
import socket
import ssl
from pathlib import Path

import pytest
from exposure import surprises
from hosts import Lab

SERVER = "mlflow.example.com"
OTHER = "login2.example.com"


def test_only_these_ports_answer(lab: Lab) -> None:
    assert lab.open_ports(SERVER, seen_from=OTHER) == {SERVER: [22, 80, 443]}


def test_nothing_else_listens(lab: Lab) -> None:
    """A new socket fails until it is in docs/security.yml, with who may use it."""
    assert surprises("scenario3", lambda script: lab.root(SERVER, script)) == []


def test_the_store_asks_for_a_key(lab: Lab) -> None:
    ask = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8333/"
    assert {lab.ssh(SERVER, f"{ask}{path}") for path in ("", "mlflow", "mlflow/x")} == {"403"}


def curl(lab: Lab, *arguments: str) -> str:
    """Return the status that curl sees on another host, which trusts what its clients trust."""
    words = " ".join(f"'{word}'" for word in arguments)
    return lab.ssh(
        OTHER,
        ". /opt/mlflow/client/activate; "
        'curl -sS -o /dev/null -w "%{http_code} %{redirect_url}" --cacert "$REQUESTS_CA_BUNDLE" '
        f"{words} 2>&1 || true",
    ).strip()


def test_plain_http_is_sent_to_tls(lab: Lab) -> None:
    assert curl(lab, f"http://{SERVER}/x?y=1") in (
        f"301 https://{SERVER}/x?y=1",
        f"308 https://{SERVER}/x?y=1",
    )


def test_nobody_gets_in_without_a_password(lab: Lab) -> None:
    url = f"https://{SERVER}/api/2.0/mlflow/experiments/search"
    assert curl(lab, "--json", '{"max_results": 1}', url).split()[0] == "401"
    assert curl(lab, "-u", "ada:wrong", "--json", '{"max_results": 1}', url).split()[0] == "401"


def test_other_names_are_refused(lab: Lab) -> None:
    address = lab.address(SERVER)
    evil = (
        "--resolve",
        f"evil.example.org:443:{address}",
        "--resolve",
        f"evil.example.org:80:{address}",
    )
    assert "curl: (35)" in curl(lab, *evil, "https://evil.example.org/")  # not even a handshake
    assert re.search(
        r"curl: \((52|56)\)", curl(lab, *evil, "http://evil.example.org/")
    )  # no answer
    said = curl(lab, "-H", "Host: evil.example.org", f"https://{SERVER}/")
    assert said.split()[0] in ("421", "400", "403") or "curl: (52)" in said or "curl: (92)" in said


@pytest.mark.parametrize("name", [f"{SERVER}:443", SERVER.upper(), f"{SERVER.title()}.:443"])
def test_its_name_is_its_name_however_it_is_written(lab: Lab, name: str) -> None:
    """Exporters of OTLP in Go and Java say the port."""
    ada = f"ada:{lab.variables['vault_mlflow_users']['ada']}"
    url = f"https://{SERVER}/api/2.0/mlflow/experiments/get?experiment_id=0"
    script = f"""
. /opt/mlflow/client/activate
curl -s -o /dev/null -w '%{{http_code}}' --cacert "$REQUESTS_CA_BUNDLE" -H 'Host: {name}' -K - \\
    '{url}' <<'END'
user = {json.dumps(ada)}
END
"""
    assert lab.ssh(OTHER, script).strip() == "200"


def test_an_edited_default_site_stays(lab: Lab) -> None:
    """It is somebody's; but there is one default server of a port, which is nobody's name."""
    page, link = "/etc/nginx/sites-available/default", "/etc/nginx/sites-enabled/default"
    site = "server { listen 80; server_name wiki.example.com; return 204; }"
    rival = site.replace("80", "80 default_server")
    gateway = ("scenario3.yml", "--limit", SERVER, "--skip-tags", "smoke", "--check")
    lab.root(SERVER, f"cp -p {page} /root/; echo '{rival}' > {page}; ln -s {page} {link}")
    try:
        said = " ".join(lab.play(*gateway, code=2).split())
        assert "the default server of port 80" in said and "Nothing was changed" in said
        lab.root(SERVER, f"echo '{site}' > {page}")
        assert "changed=0" in lab.play(*gateway)
    finally:
        lab.root(SERVER, f"rm {link}; mv /root/default {page}")


def test_metrics_are_closed(lab: Lab) -> None:
    assert curl(lab, f"https://{SERVER}/metrics").split()[0] in ("403", "404")


def test_strict_transport_security(lab: Lab) -> None:
    said = lab.ssh(OTHER, f"curl -skI https://{SERVER}/ || true").lower()
    [seconds] = re.findall(r"strict-transport-security: max-age=(\d+)", said)
    assert int(seconds) >= 15_000_000


@pytest.mark.parametrize(
    "version, welcome",
    [
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1")
def test_versions_of_tls(lab: Lab, version: ssl.TLSVersion, welcome: bool, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text(lab.root(SERVER, "cat /etc/ssl/mlflow/ca.pem"))
    context = ssl.create_default_context(cafile=str(ca))
    context.set_ciphers("ALL:@SECLEVEL=0")  # this end would speak anything
    context.minimum_version = context.maximum_version = version
    with socket.create_connection((lab.address(SERVER), 443), timeout=10) as plain:
        if welcome:
            with context.wrap_socket(plain, server_hostname=SERVER) as secure:
                assert secure.version()
        else:
            with pytest.raises(ssl.SSLError, match=r"(?i)protocol|version|alert"):
                context.wrap_socket(plain, server_hostname=SERVER)


def test_the_socket_is_guarded(lab: Lab) -> None:
    """Another user of the server's host gets neither past nginx nor at the store."""
    said = lab.ssh(
        SERVER,
        "curl -sS --unix-socket /run/mlflow/mlflow.sock http://localhost/version 2>&1 || true;"
        "ls /run/mlflow 2>&1 || true",
    )
    assert said.count("Permission denied") + said.count("Couldn't connect") + said.count(
        "Could not connect") + said.count("Failed to connect") >= 2, said  # fmt: skip
