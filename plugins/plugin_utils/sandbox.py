"""What systemd keeps from each of these roles' services."""

from __future__ import annotations

from collections.abc import Mapping

# As systemd.exec(5) names them, in the order of a unit. Of a list, each is a line.
STRICTEST: dict[str, str | list[str]] = {
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "PrivateMounts": "yes",
    "PrivateUsers": "yes",
    "ProtectProc": "invisible",
    "ProcSubset": "pid",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "AmbientCapabilities": "",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "RemoveIPC": "yes",
    "KeyringMode": "private",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": ["@system-service", "~@privileged @resources"],
    "SystemCallErrorNumber": "EPERM",
}
# For who reads a unit on a host. Where a unit has another value, it says why itself.
WHY = {
    "ProtectSystem": "Nothing of the host but what is named above can be written, and little of it "
    "be seen.",
    "SystemCallErrorNumber": "Refused rather than killed: libraries that try to pin themselves to "
    "a core go on without.",
}


class UnknownSetting(Exception):
    """A unit has another value for something that the sandbox does not have."""


def stanza(other: Mapping[str, str | list[str]]) -> str:
    """Return the lines of a unit that make its sandbox.

    Args:
        other: by setting, what this unit has in place of the strictest; a list for several lines.

    Raises:
        UnknownSetting: the sandbox has no such setting.
    """
    if unknown := sorted({*other} - {*STRICTEST}):
        raise UnknownSetting(
            f"The sandbox has no {', '.join(unknown)}. What a unit has besides, it says itself."
        )
    lines = []
    for name, strictest in STRICTEST.items():
        value = other.get(name, strictest)
        lines += [f"# {WHY[name]}"] if name in WHY and name not in other else []
        lines += [f"{name}={one}" for one in (value if isinstance(value, list) else [value])]
    return "\n".join(lines)
