"""Run one of the programs: python3 -Es DIRECTORY PROGRAM [ARGUMENT]..."""

import importlib
import os
import sys
import traceback

PROGRAMS = {
    "artifacts": "artifacts",
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
    try:
        return importlib.import_module(f"mlflow_ops.{PROGRAMS[name]}").main() or 0
    except Exception as error:  # what a program did not foresee: a sentence, and where it was
        print(f"mlflow-{name}: {unforeseen(error)}", file=sys.stderr)
        return 1


def unforeseen(error: Exception) -> str:
    """Return what an error says, in one line, and the last place here that it came by."""
    words = " ".join(str(error).split())[:1000]
    if isinstance(error, KeyError):
        words = f"there is no {words}"
    here = os.path.join(sys.path[0], "mlflow_ops", "")  # noqa: PTH118 a prefix of text
    frames = [one for one in traceback.extract_tb(error.__traceback__) if here in one.filename]
    place = f" ({frames[-1].filename.removeprefix(here)}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {words or 'no more is known'}{place}"


if __name__ == "__main__":
    sys.exit(main())
