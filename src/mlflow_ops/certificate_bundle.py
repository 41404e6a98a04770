"""A file of certificates: the host's own store, and a private CA after it.

So that a public server is trusted as ever where programs are told of this one file.
"""

from __future__ import annotations

from pathlib import Path

STORE = Path("/etc/ssl/certs/ca-certificates.crt")


def write(path: Path, ca: str, check: bool = False, store: Path = STORE) -> bool:
    """Make a bundle what it should be; return whether that changed, or would change, anything.

    Args:
        path: of the bundle, which everybody may read.
        ca: the private CA's certificate in PEM; '' removes the bundle.
        check: whether to look, and change nothing.
        store: the host's.
    """
    wanted = b""
    if ca:
        public = store.read_bytes() if store.exists() else b""
        wanted = public.rstrip() + b"\n" + ca.strip().encode() + b"\n"
    found = path.read_bytes() if path.exists() else b""
    if found == wanted and (not wanted or path.stat().st_mode & 0o777 == 0o644):
        return False
    if check:
        return True
    if wanted:
        # Never half a file for those who read it now.
        fresh = path.with_name(path.name + ".new")
        fresh.write_bytes(wanted)
        fresh.chmod(0o644)
        fresh.replace(path)
    else:
        path.unlink()
    return True
