"""Keep a server busy for some seconds, as somebody without a password can: SERVER SECONDS.

Bodies of 512 MB, 50 wrong passwords a second, 500 connections that say a word a second. Prints how
often each was answered with what, as JSON; `cut` is an end without an answer.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import ssl
import sys
import time
from collections import Counter

SERVER, SECONDS = sys.argv[1], float(sys.argv[2])
MEGABYTES, GUESSES, SLOW = 512, 50, 500
API = "/api/2.0/mlflow"
ARTIFACT = "/api/2.0/mlflow-artifacts/artifacts/0/r/artifacts/a"
# For whom, and at what: a route of Flask's, and one of FastAPI's.
USERS = ("ada", "admin", "nobody")
GUESSED = (("GET", f"{API}/experiments/get?experiment_id=0"), ("PUT", ARTIFACT))
TLS = ssl.create_default_context()
TLS.check_hostname, TLS.verify_mode = False, ssl.CERT_NONE
BLOCK = b"\0" * 65536
said: dict[str, Counter[str]] = {kind: Counter() for kind in ("large", "guesses", "slow")}
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
END = time.monotonic() + SECONDS


async def connected() -> Connection:
    """Return a connection's reader and writer."""
    return await asyncio.open_connection(SERVER, 443, ssl=TLS, server_hostname=SERVER)


def head(method: str, path: str, *more: str) -> bytes:
    """Return the beginning of a request."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {SERVER}", *more, "", ""]).encode()


async def answer(reader: asyncio.StreamReader) -> str:
    """Return the status of an answer that is read whole."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
    for line in lines:
        if line.startswith("content-length:"):
            await reader.readexactly(int(line.split(":")[1]))
    return lines[0].split()[1]


async def large(method: str, path: str, *more: str) -> None:
    """Send a body of 512 MB, again and again, each until somebody answers."""
    chunked = "Transfer-Encoding: chunked" in more
    while time.monotonic() < END:
        try:
            reader, writer = await connected()
            writer.write(head(method, path, *more))
            status = asyncio.ensure_future(reader.readline())
            for _ in range(MEGABYTES * 16):
                if status.done() or time.monotonic() > END:
                    break
                writer.write(b"10000\r\n%s\r\n" % BLOCK if chunked else BLOCK)
                await writer.drain()
            line = await asyncio.wait_for(status, 5)
            said["large"][line.split()[1].decode() if line else "cut"] += 1
            writer.close()
        except (OSError, asyncio.TimeoutError):
            said["large"]["cut"] += 1
        await asyncio.sleep(0.2)


async def guess(user: str, method: str, path: str) -> None:
    """Try a password a second over a connection that is kept, and none twice."""
    while time.monotonic() < END:
        try:
            reader, writer = await connected()
            while time.monotonic() < END:
                login = base64.b64encode(f"{user}:{secrets.token_hex()}".encode()).decode()
                writer.write(
                    head(method, path, f"Authorization: Basic {login}", "Content-Length: 0")
                )
                due = asyncio.ensure_future(asyncio.sleep(1))
                said["guesses"][await answer(reader)] += 1
                await due
        except (OSError, asyncio.IncompleteReadError):
            said["guesses"]["cut"] += 1


async def slow(number: int) -> None:
    """Say a header of a request, a line a second."""
    await asyncio.sleep(number / SLOW)
    while time.monotonic() < END:
        try:
            reader, writer = await connected()
            writer.write(f"GET / HTTP/1.1\r\nHost: {SERVER}\r\n".encode())
            while time.monotonic() < END and not reader.at_eof():
                writer.write(b"X-Word: word\r\n")
                await writer.drain()
                await asyncio.sleep(1)
            said["slow"]["cut" if reader.at_eof() else "held"] += 1
            writer.close()
        except OSError:
            said["slow"]["cut"] += 1


async def main() -> None:
    """All of it at once."""
    wrong = base64.b64encode(b"ada:a guess").decode()
    chunked, length = "Transfer-Encoding: chunked", f"Content-Length: {MEGABYTES * 1048576}"
    tasks = [
        large("POST", f"{API}/runs/create", length),
        large("POST", f"{API}/runs/create", chunked),
        large("POST", f"{API}/runs/create", chunked, f"Authorization: Basic {wrong}"),
        large("PUT", ARTIFACT, chunked),
        large("GET", "/health", chunked),
        *(guess(USERS[number % 3], *GUESSED[number % 2]) for number in range(GUESSES)),
        *(slow(number) for number in range(SLOW)),
    ]  # fmt: skip
    await asyncio.wait([asyncio.ensure_future(task) for task in tasks], timeout=SECONDS + 10)
    print(json.dumps(said))


asyncio.run(main())
