"""See that SeaweedFS goes by its file of keys: accepts those in it, refuses those that left it.

It reads the file some time after it was told to. Arguments: a JSON object with path (of the file),
port (of S3, on loopback), tls and bucket. Standard input: what the file said before. Exit code 1
with a sentence where it does not go by it in time.

Run by the host's own Python, as root: nothing newer than Python 3.6.
"""

import hashlib
import hmac
import http.client
import json
import ssl
import sys
import time
from pathlib import Path

WAIT = 15  # seconds
EMPTY = hashlib.sha256(b"").hexdigest()
asked = json.loads(sys.argv[1])


def keys(text: str) -> set:
    """Return all pairs of key and secret that such a file holds."""
    return {
        (pair["accessKey"], pair["secretKey"])
        for identity in json.loads(text)["identities"]
        for pair in identity["credentials"]
    }


def signature(secret: str, date: str, text: str) -> str:
    """Return the signature, of AWS' version 4, of a text."""
    key = ("AWS4" + secret).encode()
    for part in (date[:8], "us-east-1", "s3", "aws4_request", text):
        key = hmac.new(key, part.encode(), "sha256").digest()
    return key.hex()


def accepts(key: str, secret: str) -> bool:
    """Tell whether the store accepts a key, by asking for a list of one object."""
    host, date = (
        "127.0.0.1:{}".format(asked["port"]),
        time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
    )
    path, query = "/" + asked["bucket"], "list-type=2&max-keys=1"
    headers = {"host": host, "x-amz-content-sha256": EMPTY, "x-amz-date": date}
    lines = ["{}:{}".format(*header) for header in sorted(headers.items())]
    names = ";".join(sorted(headers))
    request = "\n".join(["GET", path, query, *lines, "", names, EMPTY])
    scope = date[:8] + "/us-east-1/s3/aws4_request"
    digest = hashlib.sha256(request.encode()).hexdigest()
    signed = signature(secret, date, "\n".join(["AWS4-HMAC-SHA256", date, scope, digest]))
    headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={names}, Signature={signed}"
    )
    if asked["tls"]:
        # Our own process, on loopback: there is no name to check.
        connection = http.client.HTTPSConnection(
            host,
            timeout=10,
            context=ssl._create_unverified_context(),  # noqa: S323
        )
    else:
        connection = http.client.HTTPConnection(host, timeout=10)
    connection.request("GET", f"{path}?{query}", headers=headers)
    status = connection.getresponse().status
    connection.close()
    return status != http.client.FORBIDDEN


present = keys(Path(asked["path"]).read_text())
gone = keys(sys.stdin.read()) - present
deadline, wrong = time.monotonic() + WAIT, "It was not asked."
while wrong:
    try:
        refused = sum(not accepts(*pair) for pair in present)
        accepted = sum(accepts(*pair) for pair in gone)
        wrong = (
            "It refuses {} of the {} keys in {}, ".format(refused, len(present), asked["path"])
            + f"and accepts {accepted} of the {len(gone)} that left it."
            if refused or accepted
            else ""
        )
    except (OSError, http.client.HTTPException) as error:
        wrong = f"It does not answer: {error}"
    if wrong and time.monotonic() > deadline:
        print(wrong, file=sys.stderr)
        sys.exit(1)
    time.sleep(0.5 if wrong else 0)
print(f"{len(present)} keys accepted, {len(gone)} refused")
