"""The role nginx: what its site says, and what it refuses before it asks a host."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from plugins.plugin_utils import nginx

ROOT = Path(__file__).resolve().parent.parent
ROLE = ROOT / "roles/nginx"
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")

INPUT: dict[str, object] = {
    "nginx_server_name": "mlflow.example.com",
    "nginx_upstreams": ["unix:/run/mlflow/mlflow.sock"],
    "nginx_tls_certificate": "/etc/ssl/m.pem",
    "nginx_tls_key": "/etc/ssl/m.key",
}
MUTUAL_TLS: dict[str, object] = {
    "nginx_upstreams": ["server1:5000", "server2:5000"],
    "nginx_upstream_tls": True,
    "nginx_upstream_ca": "/etc/ssl/ca.pem",
    "nginx_upstream_name": "mlflow-server",
    "nginx_upstream_certificate": "/etc/ssl/gateway.pem",
    "nginx_upstream_key": "/etc/ssl/gateway.key",
}

# name: (nginx's version, whether the host has IPv6, variables)
SITES: dict[str, tuple[str, bool, dict[str, object]]] = {
    "debian13": ("1.26.3", True, {}),
    "debian12": ("1.22.1", True, {}),
    "without ipv6": ("1.26.3", False, {}),
    "aliases": ("1.26.3", True, {"nginx_server_aliases": ["mlflow", "MLflow.Example.com"]}),
    "addresses": ("1.26.3", True, {"nginx_server_aliases": ["192.0.2.7", "2001:db8::7"]}),
    "presigned": ("1.26.3", True, {"nginx_artifact_access": "presigned"}),
    "mutual tls": ("1.26.3", True, MUTUAL_TLS),
    "one tls": (
        "1.26.3",
        True,
        {**MUTUAL_TLS, "nginx_upstreams": ["server1:5000"], "nginx_upstream_name": ""},
    ),
    "unlimited": (
        "1.26.3",
        True,
        {
            "nginx_limit_requests": 0,
            "nginx_limit_connections": 0,
            "nginx_hsts_seconds": 0,
            "nginx_limit_anonymous": 0,
            "nginx_request_mb": 0,
        },
    ),
    "scraped": ("1.26.3", True, {"nginx_metrics_allow": ["192.0.2.0/24"]}),
}


def play(
    directory: Path, hosts: dict[str, dict[str, object]], tasks: list[object], *vars_files: str
) -> str:
    """Run tasks on this machine, once for each host with its variables; return what it said.

    One run for many cases, since each run of Ansible takes seconds.
    """
    common = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        **INPUT,
    }
    inventory = directory / "hosts.yml"
    inventory.write_text(
        yaml.safe_dump({"all": {"hosts": {name: {**common, **own} for name, own in hosts.items()}}})
    )
    playbook = directory / "playbook.yml"
    steps = {"hosts": "all", "gather_facts": False, "tasks": tasks}
    playbook.write_text(yaml.safe_dump([steps]))
    done = subprocess.run(
        [ANSIBLE, "-i", inventory, playbook], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return each site as nginx reads it, without comments and indentation."""
    directory = tmp_path_factory.mktemp("sites")
    hosts: dict[str, dict[str, object]] = {
        name: {**variables, "seen": {"nginx": {"version": version}, "ipv6": ipv6}}
        for name, (version, ipv6, variables) in SITES.items()
    }
    # Skipped, the role only lends its variables.
    role = {"name": "nginx", "tasks_from": "preflight", "public": True}
    said = play(
        directory,
        hosts,
        [
            {"ansible.builtin.import_role": role, "when": False},
            {"ansible.builtin.set_fact": {"__nginx_found": "{{ seen }}"}},
            {
                "ansible.builtin.template": {
                    "src": f"{ROLE}/templates/mlflow.conf.j2",
                    "dest": f"{directory}/{{{{ inventory_hostname }}}}",
                    "mode": "0600",
                },
            },
            # What the role compares must be what it writes, to the byte.
            {
                "ansible.builtin.assert": {
                    "that": f"lookup('ansible.builtin.template', '{ROLE}/templates/mlflow.conf.j2')"
                    f" == lookup('ansible.builtin.file', '{directory}/' ~ inventory_hostname,"
                    " rstrip=false)"
                },
            },
        ],
    )
    assert "failed=1" not in said, said
    found = {}
    for name in SITES:
        lines = (directory / name).read_text().splitlines()
        bare = [line.partition(" #")[0].strip() for line in lines]
        found[name] = "\n".join(line for line in bare if line and not line.startswith("#")) + "\n"
    return found


def test_each_nginx_has_its_own_words_for_http2(sites: dict[str, str]) -> None:
    """Debian 12's knows no `http2 on`, and Debian 13's warns of the other form."""
    old, new = sites["debian12"], sites["debian13"]
    assert old.count("listen 443 ssl http2") == new.count("http2 on;") == 2
    assert "http2 on" not in old
    assert "ssl http2" not in new


def test_only_its_names_are_answered(sites: dict[str, str]) -> None:
    """All names alike; others get neither page nor certificate."""
    site = sites["aliases"]
    assert site.count("server_name mlflow.example.com mlflow;") == 2
    assert site.count(" default_server;") == 4
    assert site.count("ssl_reject_handshake on;") == 1
    assert site.count("ssl_certificate /etc/ssl/m.pem;") == 1
    assert "return 301 https://$host$request_uri;" in site


def test_an_address_has_to_show_its_certificate(sites: dict[str, str]) -> None:
    """Who calls an address names no server in TLS."""
    site = sites["addresses"]
    assert "ssl_reject_handshake" not in site
    assert site.count("ssl_certificate /etc/ssl/m.pem;") == 2
    assert "server_name mlflow.example.com 192.0.2.7 [2001:db8::7];" in site


def test_a_host_without_ipv6(sites: dict[str, str]) -> None:
    """nginx does not start when it is told to listen there."""
    assert "[::]" in sites["debian13"]
    assert "[::]" not in sites["without ipv6"]


def test_server_info_is_rewritten_where_artifacts_are_proxied(sites: dict[str, str]) -> None:
    """Both flags, however the JSON is written; and not at all where clients reach the store."""
    site = sites["debian13"]
    for flag in ("multipart_uploads_enabled", "multipart_downloads_enabled"):
        for space in ("", " "):
            assert f"""sub_filter '"{flag}":{space}true' '"{flag}":{space}false';""" in site
    assert "sub_filter" not in sites["presigned"]


def test_no_old_tls_is_spoken(sites: dict[str, str]) -> None:
    """Neither to names that are ours nor to others."""
    site = sites["debian13"]
    spoken = nginx.tls()
    assert "ssl_protocols TLSv1.2 TLSv1.3;\n" in spoken
    assert all(cipher.startswith("ECDHE-") for cipher in spoken.split()[4].split(":"))
    assert site.count(f"http2 on;\n{spoken}\n") == 2


def test_nginx_checks_a_file_where_it_will_be(tmp_path: Path) -> None:
    """In a copy of all that there is, which is gone afterwards."""
    etc, program, new = tmp_path / "nginx", tmp_path / "bin/nginx", tmp_path / "new"
    (etc / "conf.d").mkdir(parents=True)
    (etc / "nginx.conf").write_text(f"include {etc}/conf.d/*.conf;")
    (etc / "conf.d/other.conf").write_text(f"include {etc}/more.d/*.conf;")
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\ncat $(dirname "$4")/conf.d/other.conf $(dirname "$4")/more.d/*\n'
    )
    program.chmod(0o755)
    new.write_text("a location")
    command = nginx.validate(f"{etc}/more.d/one.conf").replace("/etc/nginx", str(etc)) % new
    done = subprocess.run(
        shlex.split(command), env={"PATH": f"{program.parent}:{os.environ['PATH']}"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    included, location = done.stdout.split(";")
    assert re.fullmatch(rf"include {etc}/[.]check[.]\w+/more[.]d/[*][.]conf", included)
    assert location == "a location"
    assert {path.name for path in etc.iterdir()} == {"nginx.conf", "conf.d"}


def test_a_socket_is_reached_without_tls(sites: dict[str, str]) -> None:
    """And every way to MLflow leads there."""
    site = sites["debian13"]
    assert "server unix:/run/mlflow/mlflow.sock max_fails" in site
    assert site.count("proxy_pass http://mlflow;") == site.count("proxy_pass ") == 5
    assert "proxy_ssl" not in site


def test_mutual_tls(sites: dict[str, str]) -> None:
    """The upstreams' certificates are compared with the name that all hold."""
    site = sites["mutual tls"]
    assert site.count("proxy_pass https://mlflow;") == site.count("proxy_pass ") == 5
    for line in (
        "server server1:5000 max_fails",
        "server server2:5000 max_fails",
        "proxy_ssl_verify on;",
        "proxy_ssl_name mlflow-server;",
        "proxy_ssl_trusted_certificate /etc/ssl/ca.pem;",
        "proxy_ssl_certificate /etc/ssl/gateway.pem;",
        "proxy_ssl_certificate_key /etc/ssl/gateway.key;",
    ):
        assert f"\n{line}" in site
    assert "proxy_ssl_name server1;" in sites["one tls"]


def test_mlflow_hears_names_as_it_compares_them(sites: dict[str, str]) -> None:
    """nginx has `$host` in lower case and without a port; `$http_host` is as the client said it."""
    site = sites["debian13"]
    assert "\nproxy_set_header Host $host;" in site
    assert "$http_host" not in site


def test_limits_can_be_lifted(sites: dict[str, str]) -> None:
    """0 means that there is none, and nothing of it is left."""
    assert "rate=500r/s" in sites["debian13"]
    site = sites["unlimited"]
    for word in ("limit_req", "limit_conn", "429", "413", "Strict-Transport-Security"):
        assert word not in site
    assert site.count("client_max_body_size 0m;") == 1


def test_only_an_upload_may_have_any_size(sites: dict[str, str]) -> None:
    """All else MLflow has in memory, whole and twice."""
    site = sites["debian13"]
    [anywhere] = re.findall(r"location ~ (\S+) \{\nclient_max_body_size 0;", site)
    assert site.count("client_max_body_size 64m;") == 1
    assert site.count("client_max_body_size ") == 2
    for path, upload in {
        "/api/2.0/mlflow-artifacts/artifacts/1/r/artifacts/model.pkl": True,
        "/ajax-api/2.0/mlflow-artifacts/artifacts/1/r": True,
        "/team/api/2.0/mlflow-artifacts/artifacts/1/r": True,
        "/api/2.0/mlflow-artifacts/mpu/create/1/r": False,
        "/ajax-api/2.0/mlflow/upload-artifact": False,
        "/api/2.0/mlflow/runs/create": False,
        "/v1/traces": False,
        "/a/b/api/2.0/mlflow-artifacts/artifacts/1": False,
    }.items():
        assert bool(re.search(anywhere, path)) == upload, path
    assert "at most 64 MB, but for an upload of artifacts (nginx_request_mb)" in site


def test_who_says_nothing_is_cut_off(sites: dict[str, str]) -> None:
    """Before it has named a server, too: then the first to listen decides."""
    for site in sites.values():
        servers = site.split("\nserver {")[1:]
        patient = [server for server in servers if "client_header_timeout 10s;" not in server]
        assert len(servers) == 5 and len(patient) == 1 and "listen 127.0.0.1:80;" in patient[0]
    assert "client_body_timeout 60s;" in sites["debian13"]


def test_who_shows_no_login_has_a_limit_of_his_own(sites: dict[str, str]) -> None:
    """On every way to MLflow, beside that of all; what others serve here has that of all alone."""
    site = sites["debian13"]
    both = (
        "limit_req zone=mlflow_requests burst=1000 nodelay;\n"
        "limit_req zone=mlflow_anonymous burst=200 nodelay;\nproxy_pass http://mlflow;\n"
    )
    assert site.count(both) == site.count("proxy_pass ") == 5
    assert site.count("zone=mlflow_requests burst") == 6
    assert '\n"" $binary_remote_addr;\ndefault "";\n' in site


def test_metrics_are_closed(sites: dict[str, str]) -> None:
    """To all but those who are named."""
    site = sites["scraped"]
    assert "location ^~ /metrics {\nallow 192.0.2.0/24;\ndeny all;\n" in site


# name: (variables, words that the one error must have)
BAD_INPUT: dict[str, tuple[dict[str, object], list[str]]] = {
    "a name that is an address of a page": (
        {"nginx_server_name": "https://mlflow.example.com"},
        ["nginx_server_name", '"https://mlflow.example.com"'],
    ),
    "no upstream": ({"nginx_upstreams": []}, ["nginx_upstreams", "unix:/run/mlflow/mlflow.sock"]),
    "an upstream with a scheme": (
        {"nginx_upstreams": ["http://server1:5000"]},
        ["nginx_upstreams", '"http://server1:5000"', "host:port"],
    ),
    "no certificate": ({"nginx_tls_certificate": ""}, ["nginx_tls_certificate", "absolute"]),
    "unknown upstreams": (
        {**MUTUAL_TLS, "nginx_upstream_ca": ""},
        ["nginx_upstream_tls", "nginx_upstream_ca"],
    ),
    "upstreams without a common name": (
        {**MUTUAL_TLS, "nginx_upstream_name": ""},
        ["nginx_upstream_name", "2 upstreams"],
    ),
    "half a client certificate": (
        {**MUTUAL_TLS, "nginx_upstream_key": ""},
        ["nginx_upstream_certificate", "nginx_upstream_key"],
    ),
    "a name where an address belongs": (
        {"nginx_metrics_allow": ["prometheus"]},
        ["nginx_metrics_allow", '"prometheus"'],
    ),
    "a size below none": ({"nginx_request_mb": -1}, ["nginx_request_mb", "0 or more"]),
    "no time at all": (
        {"nginx_client_timeout_seconds": 0},
        ["nginx_client_timeout_seconds", "1 or more"],
    ),
    "fewer than none": ({"nginx_limit_anonymous": -1}, ["nginx_limit_anonymous", "0 or more"]),
    "a limit below none": ({"nginx_limit_requests": -1}, ["nginx_limit_requests", "0 or more"]),
}


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what each bad input was answered with."""
    hosts = {case: variables for case, (variables, _) in BAD_INPUT.items()}
    role = {"name": "nginx", "tasks_from": "preflight"}
    said = play(tmp_path_factory.mktemp("bad"), hosts, [{"ansible.builtin.import_role": role}])
    found: dict[str, str] = {}
    for case in BAD_INPUT:
        _, _, rest = said.partition(f"fatal: [{case}]: FAILED!")
        found[case] = " ".join(rest.partition("Nothing was changed")[0].split())
    return found


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_refused(refusals: dict[str, str], case: str) -> None:
    """The error names the variable, what is allowed, and the file."""
    for word in [*BAD_INPUT[case][1], "group_vars"]:
        assert word in refusals[case]
