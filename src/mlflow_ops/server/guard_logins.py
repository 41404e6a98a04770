"""Whether who asks has logged in, before MLflow sees the request, and beside the event loop.

MLflow checks a password where it comes upon it: for routes of FastAPI's in the event loop, where
nobody is answered for the third of a second that a hash takes; for those of Flask's when it has the
whole body in memory. Here a request without a right password ends before either.

What is right goes on, whoever guesses. What was let in a moment ago is not hashed again (MLflow's
cache), and what was right once since the start waits for nothing. Of the rest one is hashed at a
time, and the addresses take turns. From one address, one name has so many wrong passwords a minute;
what comes then is answered with 429, which MLflow's clients repeat later. Her colleagues behind the
same address, and she at another, do not notice.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import logging
import secrets
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, NamedTuple

# What is remembered, whoever asks: names and passwords that were right, names that were tried.
REMEMBERED = 10_000
# How many checks of one address may wait, and of how many addresses.
WAITING, ADDRESSES = 32, 256
# The prefix of an IPv6 address that is one client's, who has all addresses below it.
CLIENT_BITS = 64


class Login(NamedTuple):
    """A name and a password."""

    name: str
    password: str


# Who was found to have logged in, for what MLflow asks about the same request.
CHECKED: ContextVar[Login | None] = ContextVar("CHECKED", default=None)


def header(scope: MutableMapping[str, Any], name: str) -> str:
    """Return a header of a request; empty where it has none."""
    wanted = name.lower().encode()
    return b", ".join(value for key, value in scope["headers"] if key == wanted).decode("latin-1")


def read(authorization: str) -> Login | None:
    """Return the name and the password in a header, as MLflow reads it; None for anything else."""
    scheme, _, words = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, _, password = base64.b64decode(words).decode().partition(":")
    except ValueError:
        return None
    return Login(name, password)


def client(scope: MutableMapping[str, Any], proxied: bool) -> str:
    """Return the address that a request comes from; '' for a program of this host's own.

    Args:
        scope: the request.
        proxied: whether a proxy alone reaches the server, and says whom it asks for.
    """
    if proxied:
        text = header(scope, "X-Real-IP")
    else:
        text = (scope.get("client") or ("",))[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, CLIENT_BITS), strict=False))
    return text


@dataclass
class Logins:
    """The logins of a server process. It belongs to one event loop.

    Attributes:
        known: tells, without a hash, whether a login was right a moment ago.
        right: tells whether a login is right; takes its time, in a thread.
        failures: how many wrong passwords a minute one name has from one address; 0: any number.
        clock: tells the time, in seconds.
    """

    known: Callable[[Login], bool]
    right: Callable[[Login], bool]
    failures: int
    clock: Callable[[], float] = time.monotonic

    _key: bytes = field(default_factory=lambda: secrets.token_bytes(32), init=False)
    _running: dict[bytes, asyncio.Future[HTTPStatus]] = field(default_factory=dict, init=False)
    _proven: OrderedDict[bytes, None] = field(default_factory=OrderedDict, init=False)
    # What is left to a name at an address, and since when.
    _left: OrderedDict[bytes, tuple[float, float]] = field(default_factory=OrderedDict, init=False)
    _queues: OrderedDict[str, deque[asyncio.Future[None]]] = field(
        default_factory=OrderedDict, init=False
    )
    _busy: bool = field(default=False, init=False)
    # Two, so that what was right once need not wait for what may be wrong.
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(2, "login"), init=False
    )

    async def status(self, login: Login, address: str) -> HTTPStatus:
        """Return OK for a right login, or the status of the refusal."""
        if self.known(login):
            return HTTPStatus.OK
        digest, source = self._digest(*login), self._digest(address, login.name)
        # Many requests of one person begin together: one of them is checked.
        if digest not in self._running:
            if digest not in self._proven and not self._may_try(source, address):
                return HTTPStatus.TOO_MANY_REQUESTS
            self._running[digest] = asyncio.ensure_future(
                self._checked(login, digest, source, address)
            )
        return await asyncio.shield(self._running[digest])

    async def _checked(
        self, login: Login, digest: bytes, source: bytes, address: str
    ) -> HTTPStatus:
        try:
            if digest in self._proven:
                right = await self._hashed(login)
            else:
                right = await self._in_turn(address, lambda: self._hashed(login))
        except Exception as error:  # whatever the database's driver raises
            words = str(error).partition("\n")[0]
            logging.getLogger("mlflow.guard").warning("A password cannot be checked: %s", words)
            return HTTPStatus.SERVICE_UNAVAILABLE
        finally:
            del self._running[digest]
        self._proven.pop(digest, None)
        if right:
            remember(self._proven, digest, None)
            return HTTPStatus.OK
        self._failed(source, address)
        return HTTPStatus.UNAUTHORIZED

    async def _hashed(self, login: Login) -> bool:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self.right, login)

    async def _in_turn(self, address: str, work: Callable[[], Awaitable[bool]]) -> bool:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(address, deque()).append(turn)
        if not self._busy:
            self._next()
        await turn
        try:
            return await work()
        finally:
            self._next()

    def _next(self) -> None:
        """Give the turn to the address that has waited longest for one."""
        self._busy = bool(self._queues)
        if self._busy:
            address, waiting = self._queues.popitem(last=False)
            waiting.popleft().set_result(None)
            if waiting:
                self._queues[address] = waiting

    def _may_try(self, source: bytes, address: str) -> bool:
        """Tell whether a login that may be wrong is checked."""
        if self.failures and self._remaining(source) < 1:
            return False
        if address in self._queues:
            return len(self._queues[address]) < WAITING
        return len(self._queues) < ADDRESSES

    def _remaining(self, source: bytes) -> float:
        now = self.clock()
        left, since = self._left.get(source, (self.failures, now))
        return min(self.failures, left + (now - since) * self.failures / 60)

    def _failed(self, source: bytes, address: str) -> None:
        if not self.failures:
            return
        left = max(self._remaining(source) - 1, 0.0)
        remember(self._left, source, (left, self.clock()))
        if left < 1:
            logging.getLogger("mlflow.guard").warning(
                "Wrong passwords from %s: more for the same name are refused for a while",
                address or "this host",
            )

    def _digest(self, *words: str) -> bytes:
        """Return what stands for words, which are not kept."""
        mixed = hashlib.blake2b(key=self._key, digest_size=16)
        for word in words:
            text = word.encode()
            mixed.update(b"%d:" % len(text) + text)
        return mixed.digest()


def remember(memory: OrderedDict[bytes, Any], key: bytes, value: Any) -> None:
    """Enter something, and forget what was entered longest ago where it is too much."""
    memory[key] = value
    memory.move_to_end(key)
    while len(memory) > REMEMBERED:
        memory.popitem(last=False)
