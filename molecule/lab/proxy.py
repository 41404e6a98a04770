"""A proxy by which hosts that have IPv6 alone reach package indexes, which may have IPv4 alone.

lab.py runs it in a container of its own, which has both. Where this machine has a proxy itself
(HTTP_PROXY, HTTPS_PROXY), it leads there.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
from urllib.parse import urlsplit

PORT = 3128


@functools.cache  # an installer asks for the same name hundreds of times
def address(name: str) -> str:
    """Return an address of a name."""
    return str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what one side says until it says no more."""
    with contextlib.suppress(OSError):
        while said := await reader.read(1 << 16):
            writer.write(said)
            await writer.drain()
        writer.write_eof()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Lead one connection to where its first request wants to go."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.decode().split(" ", 2)
        tunnel = method == "CONNECT"
        place = urlsplit(f"//{target}" if tunnel else target)
        other = urlsplit(os.environ.get("HTTPS_PROXY" if tunnel else "HTTP_PROXY", ""))
        there = other if other.hostname else place
        answers, asks = await asyncio.open_connection(
            address(there.hostname or ""), there.port or 80
        )
        if tunnel and there is place:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:  # with its whole address, which origin servers take as well
            asks.write(head)
        await asyncio.gather(copy(reader, asks), copy(answers, writer))
        asks.close()
    except (OSError, ValueError, asyncio.IncompleteReadError) as error:
        print(error, flush=True)
    writer.close()


async def main() -> None:
    """Serve until the container ends."""
    server = await asyncio.start_server(serve, None, PORT)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
