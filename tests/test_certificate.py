"""The role certificate: which certificates of one's own it takes, and when the CA signs anew."""

import datetime
import ipaddress
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mlflow_ops import certificate_renew
from plugins.plugin_utils import certificates

ROOT = Path(__file__).resolve().parent.parent
ROLE = ROOT / "roles/certificate"
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
NOW = datetime.datetime.now(datetime.timezone.utc)

Key = ec.EllipticCurvePrivateKey
NAMES = ["mlflow.example.com"]
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH


def general(name: str) -> x509.GeneralName:
    """Return a name or an address as a certificate has it."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def named(text: str) -> x509.Name:
    """Return a distinguished name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(
    key: Key, names: list[str], days: float, issuer: Key | None = None, *,
    expired: bool = False, uses: Sequence[x509.ObjectIdentifier] = (SERVER,),
    extension: x509.ExtensionType | None = None,
) -> str:  # fmt: skip
    """Return a certificate in PEM, self-signed unless an issuer's key is given."""
    issuer = issuer or key
    begin = NOW - datetime.timedelta(days=400 if expired else 1)
    names_of = x509.SubjectAlternativeName([general(name) for name in names])
    made = (
        x509.CertificateBuilder()
        .subject_name(named("subject" if uses else "issuer"))
        .issuer_name(named("issuer"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(NOW + datetime.timedelta(days=days))
        .add_extension(names_of, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()), critical=False
        )
        .add_extension(
            x509.ExtendedKeyUsage(uses) if uses else x509.BasicConstraints(True, 0),
            critical=not uses,
        )
    )
    made = made.add_extension(extension, critical=True) if extension else made
    built = made.sign(issuer, hashes.SHA256())
    return built.public_bytes(serialization.Encoding.PEM).decode().strip()


def pem(key: Key, password: bytes | None = None) -> str:
    """Return a key in PEM."""
    encryption = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    ).decode()


MINE, OTHER, CA = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))


def play(directory: Path, hosts: dict[str, dict[str, object]], *tasks: object) -> str:
    """Run tasks on this machine, once for each host with its variables; return what it said.

    One run for many cases, since each run of Ansible takes seconds.
    """
    common = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "certificate_name": "mlflow",
        "certificate_names": NAMES,
    }
    inventory = directory / "hosts.yml"
    inventory.write_text(
        yaml.safe_dump({"all": {"hosts": {name: {**common, **own} for name, own in hosts.items()}}})
    )
    playbook = directory / "playbook.yml"
    steps = {"hosts": "all", "gather_facts": False, "tasks": [*tasks]}
    playbook.write_text(yaml.safe_dump([steps]))
    done = subprocess.run(
        [ANSIBLE, "-i", inventory, playbook], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


def given(certificate_pem: str, key: str) -> dict[str, object]:
    """Return the variables of a certificate of one's own."""
    return {"certificate_pem": certificate_pem, "certificate_key_pem": key}


# name: (variables, words that the one error must have)
BAD_INPUT: dict[str, tuple[dict[str, object], list[str]]] = {
    "the name of the CA's file": ({"certificate_name": "ca"}, ["certificate_name", "not ca"]),
    "nobody": ({"certificate_names": []}, ["certificate_names is empty"]),
    "a name with a port": (
        {"certificate_names": ["mlflow.example.com:443"]},
        ["certificate_names", '"mlflow.example.com:443"'],
    ),
    "renewed before it is made": (
        {"certificate_renew_days": 400},
        ["certificate_renew_days", "397"],
    ),
    "a name of others": (
        {"certificate_ca_permitted": ["example.org", "192.0.2.0/24"]},
        ['certificate_names holds "mlflow.example.com"', "example.org, 192.0.2.0/24 alone",
         "add the domain or the network to certificate_ca_permitted"],
    ),
    "a name instead of a domain": (
        {"certificate_ca_permitted": ["example.com", "*.example.com"]},
        ['certificate_ca_permitted holds "*.example.com"'],
    ),
    "a CA anywhere": ({"certificate_ca_host": "elsewhere"}, ["certificate_ca_host", "elsewhere"]),
    "half a certificate": (
        given(certificate(MINE, NAMES, 90), ""),
        ["certificate_pem", "certificate_key_pem", "both"],
    ),
    "no PEM": (given("file.pem", pem(MINE)), ["certificate_pem is nothing in PEM"]),
    "a key with a passphrase": (
        given(certificate(MINE, NAMES, 90), pem(MINE, b"word")),
        ["certificate_key_pem is nothing in PEM", "passphrase"],
    ),
    "another's key": (
        given(certificate(MINE, NAMES, 90), pem(OTHER)),
        ["certificate_key_pem is not the key"],
    ),
    "the chain first": (
        given(f"{certificate(CA, [], 90)}\n{certificate(MINE, NAMES, 90)}", pem(MINE)),
        ["certificate_key_pem is not the key", "must come first"],
    ),
    "an old one": (
        given(certificate(MINE, NAMES, -1, expired=True), pem(MINE)),
        ["certificate_pem ended at"],
    ),
    "another name": (
        given(certificate(MINE, ["other.example.com"], 90), pem(MINE)),
        ["DNS:other.example.com", "not for mlflow.example.com", "certificate_names"],
    ),
    "a star for two labels": (
        given(certificate(MINE, ["*.com"], 90), pem(MINE)),
        ["DNS:*.com", "not for mlflow.example.com"],
    ),
}  # fmt: skip

# These pass; the look at the host has the last word.
GOOD_INPUT: dict[str, dict[str, object]] = {
    "its own": given(f"{certificate(MINE, NAMES, 90)}\n{certificate(CA, [], 90)}", pem(MINE)),
    "a star for one label": given(certificate(MINE, ["*.example.com"], 90), pem(MINE)),
    "the CA's": {},
}
PREFLIGHT = {"ansible.builtin.import_role": {"name": "certificate", "tasks_from": "preflight"}}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what each input was answered with last, '' where all is well."""
    hosts = {case: variables for case, (variables, _) in BAD_INPUT.items()} | GOOD_INPUT
    said = play(tmp_path_factory.mktemp("input"), hosts, PREFLIGHT)
    for key in (MINE, OTHER):
        assert pem(key).split()[3][:20] not in said
    return {
        case: " ".join(
            said.rpartition(f"fatal: [{case}]: FAILED!")[2].partition("Nothing was")[0].split()
        )
        if f"fatal: [{case}]: FAILED!" in said
        else ""
        for case in hosts
    }


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_refused(answers: dict[str, str], case: str) -> None:
    """The error says what is wrong, and in which variable and file."""
    for word in [*BAD_INPUT[case][1], "group_vars"]:
        assert word in answers[case]


@pytest.mark.parametrize("case", GOOD_INPUT)
def test_good_input_is_taken(answers: dict[str, str], case: str) -> None:
    """A star stands for one label, and intermediate certificates may follow."""
    assert not answers[case] or "This needs root" in answers[case]


# name: (variables that differ from those of a host in order, whether there is something to do)
STATES: dict[str, tuple[dict[str, object], bool]] = {
    "in order": ({}, False),
    "nothing there": ({"pem": "", "pair": False}, True),
    "a key of another": ({"pair": False}, True),
    "a key that all can read": ({"amiss": ["/etc/ssl/mlflow/mlflow.key"]}, True),
    "other names": ({"certificate_names": [*NAMES, "more.example.com"]}, True),
    "the same names": ({"certificate_names": ["MLflow.example.com", *NAMES]}, False),
    "an old CA's": ({"pem": certificate(MINE, NAMES, 300, OTHER)}, True),
    "a CA that makes way for another": ({"trusted": "both"}, True),
    "another CA's certificate beside it": ({"ca": certificate(OTHER, [], 3000)}, True),
    "near its end": ({"pem": certificate(MINE, NAMES, 74, CA)}, True),
    "not yet near its end": ({"pem": certificate(MINE, NAMES, 76, CA)}, False),
    "another use": ({"certificate_use": "client"}, True),
    "two uses, as before": (
        {"pem": certificate(MINE, NAMES, 300, CA, uses=[SERVER, CLIENT])},
        True,
    ),
}


def test_what_is_due(tmp_path: Path) -> None:
    """The CA signs when what is there is not what it would sign today, and only then."""
    ca = certificate(CA, [], 3000)
    in_order = {
        "pem": certificate(MINE, NAMES, 300, CA),
        "pair": True,
        "ca": ca,
        "trusted": ca,
        "amiss": [],
    }
    hosts: dict[str, dict[str, object]] = {
        state: {**in_order, **differs, "due": due} for state, (differs, due) in STATES.items()
    }
    directory = "/etc/ssl/mlflow"
    found = {
        "texts": {f"{directory}/mlflow.pem": "{{ pem }}", f"{directory}/ca.pem": "{{ ca }}"},
        "pairs": {f"{directory}/mlflow.pem": "{{ pair }}"},
        "amiss": "{{ amiss }}",
    }
    said = play(
        tmp_path,
        hosts,
        # Skipped, the role only lends its variables.
        {"ansible.builtin.import_role": {"name": "certificate", "public": True}, "when": False},
        {
            "ansible.builtin.set_fact": {
                "__certificate_found": found,
                "__certificate_ca_seen": {"pem": ca, "trusted": "{{ trusted }}"},
            }
        },
        {"ansible.builtin.assert": {"that": "__certificate_due == due"}},
    )
    assert said.count("All assertions passed") == len(STATES), said


def test_names_as_certificates_say_them(tmp_path: Path) -> None:
    """Names without capitals, addresses in their short form; sorted, each once."""
    names = ["MLflow.example.com", "2001:DB8:0::7", "192.0.2.7", "mlflow.example.com"]
    subjects = ["DNS:mlflow.example.com", "IP:192.0.2.7", "IP:2001:db8::7"]
    same = "names | ops.mlflow.certificate_subjects == subjects"
    hosts: dict[str, dict[str, object]] = {"one": {"names": names, "subjects": subjects}}
    said = play(tmp_path, hosts, {"ansible.builtin.assert": {"that": same}})
    assert said.count("All assertions passed") == 1, said


# name: (what a CA may sign for, what its certificates may have, what they may not)
BOUND: dict[str, tuple[list[str], list[str], list[str]]] = {
    "a domain": (
        ["example.com"],
        ["example.com", "a.b.example.com", "*.example.com", "MLflow.Example.COM"],
        ["example.org", "badexample.com", "com", "192.0.2.7", "2001:db8::7"],
    ),
    "one host": (NAMES, NAMES, ["db.example.com", "*.example.com"]),
    "a name without a domain": (["mlflow-server"], ["mlflow-server"], ["server", "db.example.com"]),
    "networks": (
        ["192.0.2.0/24", "2001:db8::/32"],
        ["192.0.2.7", "2001:db8::7"],
        ["192.0.3.7", "2001:db9::7", "mlflow.example.com"],
    ),
    "an address and a domain": (
        ["192.0.2.7", "example.com"],
        ["192.0.2.7", "db.example.com"],
        ["192.0.2.8", "2001:db8::7"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BOUND)
def test_what_a_ca_is_bound_to(case: str, tmp_path: Path) -> None:
    """What we say that it may sign for is what OpenSSL believes, of names, addresses, and both."""
    places, inside, outside = BOUND[case]
    said = certificates.constraints(places)
    extension = x509.NameConstraints(
        *([subtree(name) for name in said[kind]] or None for kind in ("permitted", "excluded"))
    )
    ca = certificate(CA, [], 3000, uses=(), extension=extension)
    assert sorted(certificates.permitted(ca)) == certificates.fewest(places)
    assert certificates.permitted(certificate(CA, [], 3000, uses=())) == []
    (tmp_path / "ca.pem").write_text(ca)
    assert certificates.outside([*inside, *outside], places) == outside
    for name in [*inside, *outside]:
        (tmp_path / "one.pem").write_text(certificate(MINE, [name], 90, CA))
        command = ["openssl", "verify", "-CAfile", "ca.pem", "one.pem"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) == (name in inside), (name, done.stderr)
        assert done.returncode == 0 or "subtree violation" in done.stderr, done.stderr


def subtree(said: str) -> x509.GeneralName:
    """Return what community.crypto makes of a constraint."""
    kind, _, value = said.partition(":")
    return x509.IPAddress(ipaddress.ip_network(value)) if kind == "IP" else x509.DNSName(value)


def test_a_domain_has_what_lies_in_it() -> None:
    """A CA is bound to as few as will do; a host's own bits of a network do not matter."""
    places = ["db.example.com", "Example.com", "192.0.2.7", "192.0.2.1/24", "example.org"]
    assert certificates.fewest(places) == ["192.0.2.0/24", "example.com", "example.org"]


class Authority:
    """A private CA, and a certificate on its host."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.pem = folder, folder / "mlflow.pem"
        (folder / "renewed").mkdir()
        (folder / "ca.key").write_text(pem(CA))
        (folder / "ca.pem").write_text(certificate(CA, [], 3000, uses=()))
        (folder / "mlflow.key").write_text(pem(MINE))
        asked = {"certificate": str(self.pem), "days": 397, "renew_days": 75,
                 "reload": ["nginx.service"], "restart": []}  # fmt: skip
        (folder / "renewed/mlflow.json").write_text(json.dumps(asked))

    def renew(self, monkeypatch: pytest.MonkeyPatch, old: str, *, taken: bool = True) -> int:
        """Have what is due renewed; return the exit code."""
        systemctl = self.folder / "systemctl"
        said = self.folder / "said"
        systemctl.write_text(f'#!/bin/sh\necho "$@" >> {said}\nexit {int(not taken)}\n')
        systemctl.chmod(0o755)
        monkeypatch.setenv("PATH", f"{self.folder}:{os.environ['PATH']}")
        monkeypatch.setattr(sys, "argv", ["certificate-renew", str(self.folder)])
        self.pem.write_text(old)
        return certificate_renew.main()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return one."""
    return Authority(tmp_path)


def test_the_ca_s_own_host_renews(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the key, the names and the use that it had; and what uses it takes it."""
    old = certificate(MINE, [*NAMES, "192.0.2.7"], 60, CA, uses=[CLIENT])
    assert authority.renew(monkeypatch, old) == 0
    before, after = (
        x509.load_pem_x509_certificate(text.encode()) for text in (old, authority.pem.read_text())
    )
    assert after.serial_number != before.serial_number and after.issuer == before.issuer
    assert 396 <= (after.not_valid_after_utc - NOW).days <= 397
    assert after.not_valid_before_utc < NOW - datetime.timedelta(hours=23)  # clocks differ
    assert after.public_key() == before.public_key() and after.subject == before.subject
    for kind in (x509.SubjectAlternativeName, x509.ExtendedKeyUsage, x509.AuthorityKeyIdentifier):
        one, other = (each.extensions.get_extension_for_class(kind) for each in (before, after))
        assert one == other
    assert (authority.folder / "said").read_text() == "try-reload-or-restart -- nginx.service\n"
    assert not list(authority.folder.glob("*.pem.*"))
    assert authority.pem.stat().st_mode & 0o777 == 0o644


# name: (what is there, whether units take a new one, the exit code, a word of what is said)
KEPT: dict[str, tuple[str, bool, int, str]] = {
    "not yet near its end": (certificate(MINE, NAMES, 90, CA), True, 0, ""),
    "another CA's": (certificate(MINE, NAMES, 9, OTHER), True, 1, "mlflow was not renewed"),
    "nothing that uses it takes it": (certificate(MINE, NAMES, 9, CA), False, 1, "not taken"),
}


@pytest.mark.parametrize("case", KEPT)
def test_the_ca_s_own_host_keeps(
    case: str, authority: Authority, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """What is not due, not its own, or would not be taken; and says why."""
    old, taken, code, word = KEPT[case]
    assert authority.renew(monkeypatch, old, taken=taken) == code
    assert authority.pem.read_text() == old
    assert word in capsys.readouterr().err
    assert not list(authority.folder.glob("*.pem.*"))
