"""The sandbox of each unit: what is in force, however the template says it."""

from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from plugins.plugin_utils import sandbox

ROOT = Path(__file__).resolve().parent.parent
TEMPLATES = {path.name: path for path in ROOT.glob("roles/*/templates/*.service.j2")}
# What is added to the distribution's own, and of which template with which item.
DROP_INS = {
    "nginx.service": ("nginx/templates/drop-in.conf.j2", ""),
    "prometheus-node-exporter.service": ("mlflow_monitoring/templates/exporter.conf.j2", "node"),
    "prometheus-nginx-exporter.service": ("mlflow_monitoring/templates/exporter.conf.j2", "nginx"),
}
TABLE = yaml.safe_load((ROOT / "docs/security.yml").read_text())["units"]

# What a system's unit has where it says nothing; systemd.exec(5).
NOTHING = {
    "ProtectSystem": "no", "ProtectHome": "no", "PrivateTmp": "no", "PrivateDevices": "no",
    "PrivateMounts": "no",
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
    "PrivateMounts": "yes", "PrivateUsers": "yes", "PrivateNetwork": "no",
    "ProtectProc": "invisible", "ProcSubset": "pid",
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
    ("mlflow-backup-verify.service", ""): {
        "PrivateUsers": "no",
        "CapabilityBoundingSet": "CAP_DAC_READ_SEARCH",
        "RemoveIPC": "no",
    },
    ("mlflow-backup-check.service", ""): {
        "PrivateNetwork": "yes",
        "RestrictAddressFamilies": "AF_UNIX",
    },
    ("mlflow-backup-drill.service", ""): {
        "PrivateUsers": "no",
        "ProtectProc": "default",
        "ProcSubset": "all",
        "CapabilityBoundingSet": ROOTS,
        "SystemCallFilter": "@system-service",
        "RemoveIPC": "no",
    },
    ("mlflow-switch.service", ""): {
        "ProtectSystem": "no",
        "ProtectHome": "read-only",
        "PrivateTmp": "no",
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

    file, of = DROP_INS.get(unit, ("", ""))
    path = ROOT / "roles" / file if file else TEMPLATES[f"{unit}.j2"]
    role = yaml.safe_load((ROOT / "roles/mlflow_monitoring/vars/main.yml").read_text())
    item = role.get(f"__mlflow_monitoring_of_{of}", {})
    template = environment.from_string(path.read_text())
    return template.render(
        lookup=lookup, item=item, mlflow_monitoring_allow=[], **dict.fromkeys(true, True)
    )


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
    assert {f"{unit}.j2" for unit, _ in UNITS} == {*TEMPLATES}
    assert {*TABLE} == {unit for unit, _ in UNITS} | {*DROP_INS}


def looser(unit: str, true: str = "") -> dict[str, str]:
    """Return what a unit has in place of the usual, and is less strict."""
    found = in_force(rendered(unit, *([true] if true else [])))
    families = {*found["RestrictAddressFamilies"].split()}
    stricter = {
        "RestrictAddressFamilies": families <= {*USUAL["RestrictAddressFamilies"].split()},
        "PrivateNetwork": True,
        "RemoveIPC": True,  # that of root means nothing
        "SystemCallErrorNumber": found["SystemCallFilter"] != "all",
    }
    return {
        name: value
        for name, value in found.items()
        if value != USUAL[name] and not stricter.get(name, False)
    }


@pytest.mark.parametrize("unit", TABLE)
def test_what_is_looser_stands_in_the_table_with_its_reason(unit: str) -> None:
    """docs/security.md is made of it."""
    cases = [true for name, true in UNITS if name == unit] or [""]
    found = {name: value for true in cases for name, value in looser(unit, true).items()}
    told = TABLE[unit].get("looser", {})
    assert found == {name: value for name, (value, _) in told.items()}
    assert all(len(why.split()) > 1 for _, why in told.values())


@pytest.mark.parametrize("unit", TABLE)
def test_no_unit_may_be_more_open_than_is_promised(unit: str) -> None:
    """MLflow 1.2; one that never is root 1.5, but for what measures the host."""
    if unit == "mlflow.service":
        assert TABLE[unit]["at_most"] <= 1.2
    elif "root" not in TABLE[unit]["runs_as"] and "node-exporter" not in unit:
        assert TABLE[unit]["at_most"] <= 1.5
    else:
        assert TABLE[unit]["looser"]


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
