"""The role certificate: which certificates of one's own it takes, and when the CA signs anew."""

import datetime
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

ROOT = Path(__file__).resolve().parent.parent
ROLE = ROOT / "roles/certificate"
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
NOW = datetime.datetime.now(datetime.timezone.utc)

Key = ec.EllipticCurvePrivateKey
NAMES = ["mlflow.example.com"]


def named(text: str) -> x509.Name:
    """Return a distinguished name."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def certificate(
    key: Key, names: list[str], days: float, issuer: Key | None = None, *, expired: bool = False
) -> str:
    """Return a certificate in PEM, self-signed unless an issuer's key is given."""
    issuer = issuer or key
    begin = NOW - datetime.timedelta(days=400 if expired else 1)
    names_of = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    built = (
        x509.CertificateBuilder()
        .subject_name(named("subject"))
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
        .sign(issuer, hashes.SHA256())
    )
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
    "near its end": ({"pem": certificate(MINE, NAMES, 29, CA)}, True),
    "not yet near its end": ({"pem": certificate(MINE, NAMES, 31, CA)}, False),
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
