"""Keep a file of certificates: the host's own store and a private CA after it.

Argument: a JSON object with path, ca (PEM; '' removes the file) and check (look, and change
nothing). Prints what came of it: changed or same. So that a public server is trusted as ever
where programs are told of this one file.

Run by the host's own Python: nothing newer than Python 3.6.
"""

import json
import sys
from pathlib import Path

STORE = Path("/etc/ssl/certs/ca-certificates.crt")

asked = json.loads(sys.argv[1])
path = Path(asked["path"])
wanted = b""
if asked["ca"]:
    store = STORE.read_bytes() if STORE.exists() else b""
    wanted = store.rstrip() + b"\n" + asked["ca"].strip().encode() + b"\n"
found = path.read_bytes() if path.exists() else b""
same = found == wanted and (not wanted or path.stat().st_mode & 0o777 == 0o644)

if not same and not asked["check"]:
    if wanted:
        # Never half a file for those who read it now.
        fresh = path.with_name(path.name + ".new")
        fresh.write_bytes(wanted)
        fresh.chmod(0o644)
        fresh.replace(path)
    else:
        path.unlink()
print("same" if same else "changed")
