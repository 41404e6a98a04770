"""Logins in front of MLflow: who is checked, when, and who is not kept waiting by whom."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import threading
from http import HTTPStatus
from pathlib import Path
from typing import Any

import mlflow_logins
import pytest
from mlflow_environments import environment
from versions import DEFAULT, GUARDED, ROOT

from mlflow_ops.server import guard, guard_logins
from mlflow_ops.server.guard_logins import Login, Logins, client, read

OK, WRONG, LATER, AWAY = (
    HTTPStatus.OK, HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.SERVICE_UNAVAILABLE,
)  # fmt: skip
ADA, GRACE, GUESS = Login("ada", "a"), Login("grace", "g"), Login("ada", "x")
HERE, THERE = "192.0.2.1", "192.0.2.2"


class Users:
    """Users whose passwords are right while they are in `right`, and hashed when they may be.

    Attributes:
        hashed: the logins that were, in that order.
        together: how many were hashed at once, at most.
        may: set where a hash may end.
        known: what MLflow's cache has.
    """

    def __init__(self) -> None:
        self.right = {ADA, GRACE}
        self.known: set[Login] = set()
        self.hashed: list[Login] = []
        self.at_work = self.together = 0
        self.may = threading.Event()
        self.may.set()
        self.now = 0.0

    def check(self, login: Login) -> bool:
        """Hash."""
        self.hashed.append(login)
        self.at_work += 1
        self.together = max(self.together, self.at_work)
        assert self.may.wait(10)
        self.at_work -= 1
        if login.name == "no database":
            raise OSError
        return login in self.right

    def logins(self, failures: int = 2) -> Logins:
        """Return what they log in through."""
        return Logins(self.known.__contains__, self.check, failures, lambda: self.now)


async def said(logins: Logins, *asked: tuple[Login, str]) -> list[HTTPStatus]:
    """Return the answers to one request after another."""
    return [await logins.status(*one) for one in asked]


async def begun(logins: Logins, *asked: tuple[Login, str]) -> list[asyncio.Task[HTTPStatus]]:
    """Begin requests in this order."""
    tasks = []
    for one in asked:
        tasks.append(asyncio.create_task(logins.status(*one)))
        await asyncio.sleep(0.01)
    return tasks


def test_who_guesses_keeps_out_nobody_else() -> None:
    """The same name elsewhere, another name here, and whoever was let in before, go on."""

    async def main() -> None:
        users = Users()
        logins = users.logins()
        assert await said(logins, (GUESS, HERE), (GUESS, HERE), (GUESS, HERE)) == [
            WRONG, WRONG, LATER
        ]  # fmt: skip
        assert await said(logins, (ADA, HERE), (ADA, THERE), (GRACE, HERE)) == [LATER, OK, OK]
        assert await said(logins, (ADA, HERE)) == [OK]  # it was right once, though elsewhere
        users.now = 30.0  # half a minute's worth is back
        assert await said(logins, (GUESS, HERE), (GUESS, HERE)) == [WRONG, LATER]
        users.right.remove(ADA)  # and what was right once may have been changed since
        assert await said(logins, (ADA, THERE), (ADA, HERE)) == [WRONG, LATER]

    asyncio.run(main())


def test_without_a_limit_all_are_checked() -> None:
    async def main() -> None:
        logins = Users().logins(failures=0)
        assert await said(logins, *[(GUESS, HERE)] * 9) == [WRONG] * 9

    asyncio.run(main())


def test_what_is_known_is_not_hashed() -> None:
    async def main() -> None:
        users = Users()
        users.known.add(ADA)
        assert await said(users.logins(), (ADA, HERE)) == [OK]
        assert users.hashed == []

    asyncio.run(main())


def test_one_at_a_time_and_the_addresses_take_turns() -> None:
    """Nobody waits for all that another address has asked; and who is proven, for nobody."""

    async def main() -> None:
        users = Users()
        logins = users.logins(failures=100)
        assert await said(logins, (GRACE, THERE)) == [OK]
        users.hashed.clear()
        users.may.clear()
        guesses = [(Login("ada", str(number)), HERE) for number in range(5)]
        first = await begun(logins, *guesses, (ADA, THERE))
        assert len(users.hashed) == 1
        proven = await begun(logins, (GRACE, HERE), (GRACE, THERE))  # of two alike, one
        assert users.hashed == [guesses[0][0], GRACE]
        users.may.set()
        assert await asyncio.gather(*proven, *first) == [OK, OK, *[WRONG] * 5, OK]
        assert users.hashed.index(ADA) == 3  # after the second of the five
        assert users.together == 2

    asyncio.run(main())


def test_the_loop_goes_on_meanwhile_and_what_waits_is_bounded() -> None:
    async def main() -> None:
        users = Users()
        logins = users.logins(failures=0)
        users.may.clear()
        many = [(Login("ada", str(number)), HERE) for number in range(50)]
        tasks = await begun(logins, *many)
        later = [task.done() and task.result() == LATER for task in tasks]
        assert later == [False] * (guard_logins.WAITING + 1) + [True] * (49 - guard_logins.WAITING)
        elsewhere = [(GUESS, f"198.51.100.{number}") for number in range(256)]
        users.may.set()
        assert (await asyncio.gather(*tasks)).count(WRONG) == guard_logins.WAITING + 1
        assert {*await asyncio.gather(*(logins.status(*one) for one in elsewhere))} == {WRONG}

    asyncio.run(main())


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_logins, "REMEMBERED", 3)

    async def main() -> None:
        users = Users()
        logins = users.logins(failures=1)
        guesses = [(Login(f"user{number}", "x"), HERE) for number in range(9)]
        users.right |= {Login(f"right{number}", "x") for number in range(9)}
        assert await said(logins, *guesses) == [WRONG] * 9
        await said(logins, *((login, THERE) for login in users.right))
        assert (len(logins._left), len(logins._proven), logins._running) == (3, 3, {})
        assert not logins._queues

    asyncio.run(main())


def test_a_database_that_is_away_is_no_wrong_password() -> None:
    """MLflow's clients ask again then, and not for 401; it counts for nothing."""

    async def main() -> None:
        nobody = Login("no database", "x")
        assert await said(Users().logins(failures=1), (nobody, HERE), (nobody, HERE)) == [AWAY] * 2

    asyncio.run(main())


@pytest.mark.parametrize(
    ("header", "login"),
    {
        "Basic YWRhOmE=": ADA,
        "basic YWRhOmE=": ADA,
        "Basic YWRhOmE6Yg==": Login("ada", "a:b"),
        "Basic w6Q6w7Y=": Login("ä", "ö"),
        "Basic 5Dr2": None,  # Latin-1
        "Basic YWRh": Login("ada", ""),
        "Basic YWRhOm": None,
        "Bearer YWRhOmE=": None,
        "Basic": Login("", ""),
        "": None,
    }.items(),
)
def test_headers_are_read_as_mlflow_reads_them(header: str, login: Login | None) -> None:
    assert read(header) == login


def test_an_address_is_that_which_a_proxy_says_and_no_client() -> None:
    def scope(real: str, there: str) -> dict[str, Any]:
        return {"headers": [(b"x-real-ip", real.encode())], "client": (there, 1)}

    assert client(scope(HERE, THERE), proxied=True) == HERE
    assert client(scope(HERE, THERE), proxied=False) == THERE
    assert client({"headers": [], "client": None}, proxied=True) == ""
    assert client({"headers": [], "client": None}, proxied=False) == ""
    assert client(scope("nonsense", THERE), proxied=True) == ""
    # A client of IPv6 has a network of addresses.
    one, other = (client(scope(f"2001:db8::{part}", ""), proxied=True) for part in ("1", "2:3"))
    assert one == other != client(scope("2001:db8:0:1::1", ""), proxied=True)


def basic(login: Login) -> str:
    """Return a login as a header has it."""
    return "Basic " + base64.b64encode(":".join(login).encode()).decode()


OWN, KEY, TOKEN = "x-mlflow-authorization", "Bearer key-of-a-provider", Login("ada", "token")
GATEWAY, API = "/gateway/mlflow/v1/chat/completions", "/api/2.0/mlflow/experiments/search"


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (API, {}, WRONG),
        (API, {"authorization": basic(ADA)}, OK),
        (API, {"authorization": basic(GUESS)}, WRONG),
        (API, {"authorization": KEY}, WRONG),
        # At the gateway, the login may be beside a provider's key, and jobs have a password.
        (GATEWAY, {"authorization": KEY, OWN: basic(ADA)}, OK),
        (GATEWAY, {"authorization": basic(ADA), OWN: basic(GUESS)}, WRONG),
        (GATEWAY, {"authorization": basic(ADA), OWN: ""}, OK),
        (GATEWAY, {"authorization": KEY}, WRONG),
        (API, {"authorization": KEY, OWN: basic(ADA)}, WRONG),
        (GATEWAY, {"authorization": basic(TOKEN)}, OK),
        (API, {"authorization": basic(TOKEN)}, WRONG),
    ],
)
def test_the_door_knows_where_a_login_is(
    path: str, headers: dict[str, str], status: HTTPStatus
) -> None:
    door = guard.BasicAuthDoor(Users().logins(), proxied=True, token=TOKEN.password)
    scope = {"headers": [(name.encode(), value.encode()) for name, value in headers.items()]}
    assert asyncio.run(door.status(scope, path)) == status


# What a real MLflow answers: a status, the bytes of the body that were read, where it hashed.
REFUSED, CHECKED, BODY = [401, 0, []], [401, 0, ["login"]], len(mlflow_logins.BODY)
ANSWERS: dict[str, list[Any]] = {
    "nobody": REFUSED, "nobody, FastAPI": REFUSED, "nobody, health": [200, 0, []],
    "nobody, a page": REFUSED,
    "wrong": CHECKED, "wrong, FastAPI": CHECKED, "wrong, health": [200, 0, ["login"]],
    "too often": [429, 0, []], "too often, right": [429, 0, []],
    "right, another address": [200, BODY, ["login"]],
}  # fmt: skip


@pytest.mark.parametrize(
    ("version", "seconds"), [*((version, 60) for version in GUARDED), (DEFAULT, 0)]
)
def test_mlflow_reads_nothing_of_who_has_not_logged_in(
    version: str, seconds: int, tmp_path: Path
) -> None:
    """And it hashes nothing itself, whether its cache is on or off."""
    mine = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [environment(version), "-W", "ignore", mlflow_logins.__file__, str(seconds)],
        cwd=tmp_path, env={**mine, "PYTHONPATH": f"{ROOT}/src"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    again = [200, BODY, [] if seconds else ["login"]]
    assert json.loads((tmp_path / "answer.json").read_text()) == {
        **ANSWERS, "right again": again, "right, FastAPI": again
    }  # fmt: skip
