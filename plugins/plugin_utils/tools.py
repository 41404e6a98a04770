"""The package src/ as a host gets it: its digest, and one archive of it."""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import zipfile
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src"
DIRECTORY = "/usr/local/lib/mlflow"


@functools.cache
def files() -> dict[str, bytes]:
    """Return the content of the package's files by their path below src/."""
    found = [
        *SOURCE.glob("*.py"),
        *SOURCE.glob("mlflow_ops/**/*.py"),
        *SOURCE.glob("mlflow_ops/**/*.txt"),
    ]
    return {path.relative_to(SOURCE).as_posix(): path.read_bytes() for path in sorted(found)}


@functools.cache
def digest() -> str:
    """Return the digest of the package, as its directory on a host is named."""
    whole = hashlib.sha256()
    for name, content in files().items():
        whole.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    return whole.hexdigest()[:16]


def directory() -> str:
    """Return where this very package is on a host that has it."""
    return f"{DIRECTORY}/{digest()}"


def archive() -> str:
    """Return the package as a zip file, in base64."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files().items():
            target.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return base64.b64encode(packed.getvalue()).decode()
