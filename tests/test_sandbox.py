"""The sandbox of each unit: what is in force, however the template says it."""

from pathlib import Path
from typing import Any

import jinja2
import pytest

from plugins.plugin_utils import sandbox

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = {path.name: path for path in ROOT.glob("roles/*/templates/*.service.j2")}
UNCONFINED = "mlflow-switch.service.j2"  # it stops and starts the service

# What a system's unit has where it says nothing; systemd.exec(5).
NOTHING = {
    "ProtectSystem": "no", "ProtectHome": "no", "PrivateTmp": "no", "PrivateDevices": "no",
    "PrivateUsers": "no", "PrivateNetwork": "no", "ProtectProc": "default", "ProcSubset": "all",
    "ProtectClock": "no", "ProtectControlGroups": "no", "ProtectHostname": "no",
    "ProtectKernelLogs": "no", "ProtectKernelModules": "no", "ProtectKernelTunables": "no",
    "NoNewPrivileges": "no", "CapabilityBoundingSet": "all", "AmbientCapabilities": "",
    "RestrictAddressFamilies": "all", "RestrictNamespaces": "no", "RestrictRealtime": "no",
    "RestrictSUIDSGID": "no", "LockPersonality": "no", "MemoryDenyWriteExecute": "no",
    "RemoveIPC": "no", "KeyringMode": "private", "SystemCallArchitectures": "all",
    "SystemCallFilter": "all", "SystemCallErrorNumber": "kill",
}  # fmt: skip
MERGED = {"CapabilityBoundingSet", "RestrictAddressFamilies"}  # each line adds to those before
OF_A_DYNAMIC_USER = {
    "ProtectSystem": "strict", "PrivateTmp": "yes", "NoNewPrivileges": "yes",
    "RestrictSUIDSGID": "yes", "RemoveIPC": "yes",
}  # fmt: skip

USUAL = {
    "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes", "PrivateDevices": "yes",
    "PrivateUsers": "yes", "PrivateNetwork": "no", "ProtectProc": "invisible", "ProcSubset": "pid",
    "ProtectClock": "yes", "ProtectControlGroups": "yes", "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes", "ProtectKernelModules": "yes", "ProtectKernelTunables": "yes",
    "NoNewPrivileges": "yes", "CapabilityBoundingSet": "", "AmbientCapabilities": "",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX", "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes", "RestrictSUIDSGID": "yes", "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes", "RemoveIPC": "yes", "KeyringMode": "private",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": "@system-service|~@privileged @resources",
    "SystemCallErrorNumber": "EPERM",
}  # fmt: skip
ROOTS = "CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_SETGID CAP_SETUID"
# unit, and the variables that matter: where it differs from the usual
UNITS: dict[tuple[str, str], dict[str, str]] = {
    ("mlflow.service", ""): {},
    ("mlflow.service", "mlflow_server_socket"): {
        "SystemCallFilter": "@system-service|~@privileged @resources|@chown",
    },
    ("mlflow-gc.service", ""): {},
    ("mlflow-health.service", ""): {},
    ("mlflow-health.service", "__mlflow_monitoring_installation"): {
        "PrivateUsers": "no",
        "CapabilityBoundingSet": "CAP_SETGID CAP_SETUID",
        "SystemCallFilter": "@system-service|~@privileged @resources|@setuid",
    },
    ("mlflow-model@.service", ""): {
        "PrivateNetwork": "yes",
        "RestrictAddressFamilies": "AF_UNIX",
    },
    ("mlflow-certificates.service", ""): {
        "PrivateUsers": "no",
        "PrivateNetwork": "yes",
        "ProcSubset": "all",
        "RestrictAddressFamilies": "AF_UNIX",
        "RemoveIPC": "no",
    },
    ("seaweedfs.service", ""): {},
    ("seaweedfs-s3.service", ""): {"SystemCallFilter": "@system-service"},
    ("mlflow-backup.service", ""): {
        "PrivateUsers": "no",
        "CapabilityBoundingSet": "CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER "
        "CAP_SETGID CAP_SETPCAP CAP_SETUID CAP_SYS_ADMIN",
        "RestrictNamespaces": "mnt",
        "SystemCallFilter": "@system-service @mount",
        "RemoveIPC": "no",
    },
    ("mlflow-backup-check.service", ""): {
        "PrivateNetwork": "yes",
        "ProcSubset": "all",
        "RestrictAddressFamilies": "AF_UNIX",
        "SystemCallFilter": "@system-service",
        "SystemCallErrorNumber": "kill",
    },
    ("mlflow-backup-drill.service", ""): {
        "PrivateUsers": "no",
        "ProtectProc": "default",
        "ProcSubset": "all",
        "CapabilityBoundingSet": ROOTS,
        "SystemCallFilter": "@system-service",
        "RemoveIPC": "no",
    },
    ("mlflow-backup-sandbox@.service", ""): {
        "PrivateNetwork": "yes",
        "MemoryDenyWriteExecute": "no",
        "SystemCallFilter": "@system-service",
    },
}


def rendered(unit: str, *true: str) -> str:
    """Return a unit; of the variables that decide something, some are true."""
    environment = jinja2.Environment(
        undefined=jinja2.ChainableUndefined,
        trim_blocks=True,
        autoescape=False,  # noqa: S701
    )
    environment.filters |= {"bool": bool, "comment": str, "basename": str}

    def lookup(name: str, **other: Any) -> str:
        return sandbox.stanza(other) if name == "ops.mlflow.sandbox" else "looked-up"

    template = environment.from_string(TEMPLATES[f"{unit}.j2"].read_text())
    return template.render(lookup=lookup, **dict.fromkeys(true, True))


def in_force(text: str) -> dict[str, str]:
    """Return what systemd makes of a unit's lines."""
    lines = [line.partition("=")[::2] for line in text.splitlines() if not line.startswith("#")]
    dynamic, user = ("DynamicUser", "yes") in lines, "User" in dict(lines)
    found = NOTHING | (OF_A_DYNAMIC_USER if dynamic else {})
    for name, value in lines:
        if name not in NOTHING:
            continue
        before = [] if found[name] == "all" else found[name].split()
        if name == "SystemCallFilter":
            found[name] = value if found[name] == "all" else f"{found[name]}|{value}"
        elif name in MERGED:
            found[name] = " ".join(sorted({*before, *value.split()})) if value else ""
        else:
            found[name] = value
    # It has a meaning for a user of the unit's own alone.
    return found if user or dynamic else found | {"RemoveIPC": "no"}


@pytest.mark.parametrize(("unit", "true"), UNITS)
def test_each_unit_has_its_sandbox(unit: str, true: str) -> None:
    """The usual, and what it alone loosens or tightens."""
    assert in_force(rendered(unit, *([true] if true else []))) == USUAL | UNITS[unit, true]


def test_no_unit_is_forgotten() -> None:
    assert {f"{unit}.j2" for unit, _ in UNITS} == {*TEMPLATES} - {UNCONFINED}


def test_a_unit_says_what_it_has_instead() -> None:
    """And why the usual is so is said where it is so."""
    usual = sandbox.stanza({})
    other = sandbox.stanza({"SystemCallErrorNumber": "kill", "SystemCallFilter": ["@a", "@b"]})
    assert "# Refused rather than killed" in usual
    assert "# Refused" not in other
    assert "SystemCallFilter=@a\nSystemCallFilter=@b\n" in other
    assert other.endswith("\nSystemCallErrorNumber=kill")


def test_what_the_sandbox_does_not_have_is_refused() -> None:
    """A name that is misspelt would loosen nothing, and nobody would see it."""
    with pytest.raises(sandbox.UnknownSetting, match="has no PrivateUser, Restart"):
        sandbox.stanza({"Restart": "no", "PrivateUser": "no"})
