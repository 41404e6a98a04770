"""Run one of the programs: python3 -Es DIRECTORY PROGRAM [ARGUMENT]..."""

import importlib
import os
import sys

PROGRAMS = {
    "backup": "backup.run",
    "backup-bucket": "backup.bucket",
    "backup-drill": "backup.drill",
    "backup-sandbox": "backup.sandbox",
    "backup-unpack": "backup.unpack",
    "certificate-renew": "certificate_renew",
    "database": "database.command",
    "gc": "gc",
    "health": "health",
    "model": "models.deploy",
    "model-check": "models.check",
    "model-files": "models.files",
    "promote": "promote.as_owner",
    "ready": "server.ready",
    "reconcile": "server.reconcile",
    "reset": "server.reset",
    "rollout": "rollout",
    "rotation": "server.rotation",
    "seaweedfs-ready": "seaweedfs_ready",
    "s3": "s3",
    "serve": "server.serve",
}


def main() -> int:
    """Run the program that the first argument names; return its exit code."""
    if len(sys.argv) < 2 or sys.argv[1] not in PROGRAMS:
        print(f"{__doc__}\nProgram: one of {', '.join(PROGRAMS)}", file=sys.stderr)
        return 2
    # By a link that moves with the next installation: what runs goes on with what it began with.
    sys.path[0] = os.path.realpath(sys.path[0])
    os.open(
        sys.path[0], os.O_RDONLY
    )  # until it ends: what is held open is not removed (installed.py)
    name = sys.argv.pop(1)
    sys.argv[0] = f"mlflow-{name}"
    return importlib.import_module(f"mlflow_ops.{PROGRAMS[name]}").main() or 0


if __name__ == "__main__":
    sys.exit(main())
