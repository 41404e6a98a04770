"""What MLflow's server may be asked, and by whom: a guard around the application that it runs.

serve.py has uvicorn run `application` here instead of MLflow's own, which it names in
MLFLOW_GUARD_APPLICATION. Each request is looked up in guard_routes.txt; what is not there is
refused, and so is what the table closes. Where people log in, passwords are checked before MLflow
reads a request (guard_logins.py). Of the person who asks the guard knows what a Login tells
it: her name, whether she is an administrator, which experiments she may read or edit. Requests that
name a place for artifacts are looked at before MLflow sees them (guard_places.py).

Settings, besides those of MLflow and of serve.py: MLFLOW_GUARD_AI_GATEWAY (true),
MLFLOW_GUARD_AI_GATEWAY_MEMBERS and MLFLOW_GUARD_ARTIFACT_ROOTS (JSON lists). Without them all is
closed. MLFLOW_GUARD_FAILURES is how many wrong passwords a minute one name has from one address.

What it looks into or replaces of MLflow is named in mlflow_internals.py; how, says the second half
of this file.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.parse import parse_qs, unquote, urlencode

from .. import mlflow_internals as internals
from . import guard_logins, guard_places
from .guard_logins import CHECKED, Logins
from .guard_places import Occupied, Place, Refused, Roots

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

TABLE = Path(__file__).with_name("guard_routes.txt")
# From the widest to the narrowest: of several lines that a path matches, the narrowest counts.
WHO = ("everyone", "member", "keeper", "administrator", "nobody")
SWITCHES = {
    "jobs": "Jobs are switched off on this server (mlflow_server_jobs).",
    "gateway": "The AI gateway is switched off on this server (mlflow_server_ai_gateway).",
}
CLOSED = "This server offers it to nobody."
# What nginx asks for who calls a served model (roles/mlflow_model_serving): by the name that it was
# served from, and by when it was made, which it keeps under another name.
MODEL = "/api/2.0/mlflow/registered-models/get"
GONE = "No registered model of this server was made then: it has been deleted."
UNKNOWN = "The guard of this server does not know this request, and refuses what it does not know."
DOUBTFUL = "The path of this request can be read in more than one way."

GROUP = re.compile(
    r"\[(?P<who>\w+)(?: if (?P<switch>\w+))?(?:; (?P<older>\w+) before (?P<since>[\d.]+))?\]"
)
ROUTE = re.compile(
    r"(?P<methods>[A-Z,]+) +(?P<path>/\S*)"
    r"(?P<words>(?: +(?:check=(?:location|source|tags)|since=[\d.]+|optional))*)"
)
NUMBER = re.compile(r"[0-9]+")
MOMENT = re.compile(r"[0-9]{1,18}")
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
VARIABLE = re.compile(r"\{\w+(?P<path>:path)?\}")


class Rule(NamedTuple):
    """What is asked of a request.

    Attributes:
        who: who may make it, of WHO.
        check: which of its data is looked at; empty for none.
        closed: why nobody may, where that is so.
    """

    who: str
    check: str = ""
    closed: str = ""


class Line(NamedTuple):
    """A route as the table has it, with what holds for the version and the settings."""

    method: str
    path: str
    rule: Rule
    optional: bool = False


def lines(text: str, version: str, on: Iterable[str]) -> Iterator[Line]:
    """Yield the routes of a table.

    Args:
        text: the table's.
        version: MLflow's.
        on: which of SWITCHES are on.
    """
    present, rule = internals.number(version), Rule("nobody")
    for row in text.splitlines():
        row = row.strip()
        if not row or row.startswith("#"):
            continue
        if group := GROUP.fullmatch(row):
            who, switch = group["who"], group["switch"]
            if group["since"] and present < internals.number(group["since"]):
                who = group["older"]
            if switch and switch not in on:
                rule = Rule("nobody", closed=SWITCHES[switch])
            else:
                rule = Rule(who, closed=CLOSED if who == "nobody" else "")
            WHO.index(who)
            continue
        found = ROUTE.fullmatch(row)
        if not found:
            raise ValueError(f"{TABLE.name}: this is no route: {row}")
        words = dict(word.partition("=")[::2] for word in found["words"].split())
        if present < internals.number(words.get("since", "")):
            continue
        for method in found["methods"].split(","):
            for form in ("ajax-", "") if "(ajax-)" in found["path"] else ("",):
                path = found["path"].replace("(ajax-)", form)
                checked = rule._replace(check=words.get("check", ""))
                yield Line(method, path, checked, "optional" in words)


def narrower(one: Rule, other: Rule) -> Rule:
    """Return what holds where two lines match."""
    first, second = sorted((one, other), key=lambda rule: WHO.index(rule.who), reverse=True)
    return first._replace(check=first.check or second.check)


class Table:
    """The table, for look-ups by method and path.

    Attributes:
        routes: its lines.
    """

    def __init__(self, routes: Iterable[Line]) -> None:
        self.routes = list(routes)
        self._exact: dict[tuple[str, str], Rule] = {}
        # By method and what stands before the first variable, so that few patterns are tried.
        self._patterns: dict[str, list[tuple[str, re.Pattern[str], Rule]]] = {}
        for method, path, rule, _ in self.routes:
            prefix, brace, _ = path.partition("{")
            if not brace:
                self._exact[method, path] = rule
                continue
            pattern, end = "", 0
            for variable in VARIABLE.finditer(path):
                pattern += re.escape(path[end : variable.start()])
                pattern += ".+" if variable["path"] else "[^/]+"
                end = variable.end()
            pattern += re.escape(path[end:])
            found = self._patterns.setdefault(method, [])
            found.append((prefix, re.compile(pattern, re.DOTALL), rule))
        for (method, path), rule in self._exact.items():
            self._exact[method, path] = self._matching(method, path, rule) or rule

    def _matching(self, method: str, path: str, rule: Rule | None) -> Rule | None:
        for prefix, pattern, other in self._patterns.get(method, ()):
            if path.startswith(prefix) and pattern.fullmatch(path):
                rule = narrower(rule, other) if rule else other
        return rule

    def find(self, method: str, path: str) -> Rule | None:
        """Return what is asked of a request; None where it is not in the table."""
        if method == "HEAD":
            # MLflow's own permissions name GET alone.
            rule = self.find("GET", path)
            return rule if rule and rule.who in ("everyone", "nobody") else None
        if method == "OPTIONS":
            # Flask and the middleware for other origins answer it, and no handler of MLflow's.
            there = [self.find(other, path) for other in ("GET", "POST", "PUT", "PATCH", "DELETE")]
            open_to = [rule for rule in there if rule and rule.who != "nobody"]
            return Rule("everyone") if open_to else next(filter(None, there), None)
        exact = self._exact.get((method, path))
        return exact if exact else self._matching(method, path, None)


def doubtful(path: str) -> bool:
    """Tell whether routers, file systems and people could read a path in different ways."""
    if not path.startswith("/") or "\\" in path or "//" in path:
        return True
    if "/." in path and not {".", ".."}.isdisjoint(path.split("/")):
        return True
    if CONTROL.search(path):
        return True
    # What the web server decodes once, MLflow decodes to the end.
    return "%" in path and (decoded := unquote(path)) != path and doubtful(decoded)


class Who(Protocol):
    """The person who asks, as the login application vouches for her."""

    name: str

    def is_administrator(self) -> bool:
        """Tell whether she may do everything."""

    def may_read_experiment(self, experiment_id: str) -> bool:
        """Tell whether she may read an experiment and all that is in it."""

    def may_edit_experiment(self, experiment_id: str) -> bool:
        """Tell whether she may change it."""

    def may_read_model(self, name: str) -> bool:
        """Tell whether she may read a registered model and its versions."""


class Login(Protocol):
    """A login application. It is asked within the request, after it has let it through."""

    # Whether people log in; where not, everybody is an administrator.
    asks: bool

    def who(self) -> Who | None:
        """Return who makes the present request; None where she did not log in."""


class Store(Protocol):
    """What the guard asks the tracking store. What is not there raises LookupError."""

    def locations(self, experiment_id: str = "") -> list[tuple[str, str]]:
        """Return an experiment and its artifact location, or all of them, deleted ones too."""

    def stamp(self) -> object:
        """Return what is another when an experiment has come or gone for good."""

    def run(self, run_id: str) -> tuple[str, str]:
        """Return the experiment of a run, and where its artifacts are."""

    def model(self, model_id: str) -> tuple[str, str]:
        """Return the experiment of a logged model, and where its artifacts are."""


@dataclass
class Places:
    """The rules for places that requests name. Each check raises Refused.

    Attributes:
        roots: where artifacts may be.
        store: what is where.
    """

    roots: Roots
    store: Store

    _known: tuple[object, Occupied] = field(default=(None, Occupied(())), init=False)

    def _occupied(self) -> Occupied:
        """Return what is where now: all are read again only when the store has others."""
        stamp, known = self.store.stamp(), self._known
        if stamp != known[0]:
            self._known = known = stamp, Occupied(self._experiments())
        return known[1]

    def _experiments(self) -> Iterator[tuple[str, Place]]:
        for experiment_id, address in self.store.locations():
            try:
                yield experiment_id, guard_places.parsed(address, self.roots.destination)
            except Refused:
                continue  # MLflow 2 made it; nothing of this server's lies there

    def _names(self, place: Place) -> set[Place]:
        return {place, place.real(), self.roots.led_to(place)}

    def _overlapping(self, place: Place) -> dict[str, Place]:
        occupied, found = self._occupied(), dict[str, Place]()
        for name in self._names(place):
            found |= occupied.overlapping(name)
        return found

    def judges(self, path: str, action: str) -> dict[str, str]:
        """Return the experiments by which a path below the root is judged, and the path in each.

        The one whose number begins the path judges alone, as MLflow has it. Otherwise every one
        whose location holds it does: where two were made at one moment, neither gains over the
        other. What writes or deletes may reach those that lie below the path, too.

        Args:
            path: as whoever opens it reads it.
            action: read, update or manage.
        """
        inner = guard_places.names(path)
        if inner and NUMBER.fullmatch(inner[0]):
            return {inner[0]: "/".join(inner[1:])}
        occupied, found = self._occupied(), dict[str, str]()
        for name in self._names(self.roots.destination.below(*inner)):
            for number, other in occupied.around(name).items():
                # One that was placed around the root, before that was refused, judges nothing.
                if not self.roots.destination.within(other):
                    found[number] = "/".join(name.parts[len(other.parts) :])
            if action != "read":
                found |= dict.fromkeys(occupied.within(name).keys() - found.keys(), "")
        return found

    def check_location(self, address: str, who: Who) -> None:
        """Check where a new experiment is to keep its artifacts."""
        if not address:
            return  # MLflow's own choice
        place = self.roots.new_location(address)
        for experiment_id in self._overlapping(place):
            if not who.may_edit_experiment(experiment_id):
                raise Refused("it overlaps with that of an experiment which is not yours")

    def check_source(
        self, source: str, who: Who, *, run_id: str = "", model_id: str = "", prompt: bool = False
    ) -> None:
        """Check where a new version of a registered model is to come from."""
        if prompt and source in guard_places.PROMPTS:
            return  # it has no place
        for known, look in ((run_id, self.store.run), (model_id, self.store.model)):
            if known:
                self._check_owned(*self._found(look, known), who)
        kind, what = guard_places.referred(source)
        if kind == "model":
            # Its own version was checked when it was made, or is one that was there before.
            if not all(who.may_read_model(name) for name in {what, unquote(what)}):
                raise Refused("it names no model that you may read")
        elif kind:
            look = self.store.run if kind == "run" else self.store.model
            self._check_owned(*self._found(look, what), who)
        else:
            self._check_readable(self.roots.place(source), who)

    def _found(self, look: Callable[[str], tuple[str, str]], name: str) -> tuple[str, str]:
        try:
            return look(name)
        except LookupError:
            raise Refused("it names no run or model that you may read") from None

    def _check_owned(self, experiment_id: str, address: str, who: Who) -> None:
        if not who.may_read_experiment(experiment_id):
            raise Refused("it names no run or model that you may read")
        self.roots.place(address)

    def _check_readable(self, place: Place, who: Who) -> None:
        if self.roots.is_admitted(place):
            return
        overlapping = self._overlapping(place)
        inside = all(
            any(name.within(other) for other in overlapping.values())
            for name in (place, self.roots.led_to(place))
        )
        if not inside or not all(map(who.may_read_experiment, overlapping)):
            raise Refused("it lies in no experiment that you may read")

    def trace_is_there(self, experiment_id: str, trace_id: str, address: str) -> bool:
        """Tell whether an address is where MLflow itself puts a trace of an experiment.

        Its name is whatever the client said: one with a path in it leads to others' data.
        """
        return guard_places.is_name(trace_id) and any(
            address == f"{own.rstrip('/')}/traces/{trace_id}/artifacts"
            for _, own in self.store.locations(experiment_id)
        )

    def archive_is_there(self, address: str) -> bool:
        """Tell whether an address is one where traces are archived: below an admitted root."""
        try:
            return self.roots.is_admitted(self.roots.place(address))
        except Refused:
            return False


# Tags of a trace by which MLflow finds its data, and that no client has to set.
TRACE_PLACES = frozenset({internals.TRACE_LOCATION_TAG.value, internals.TRACE_ARCHIVE_TAG.value})


def names_a_place(data: Any) -> bool:
    """Tell whether a request about a trace holds one of TRACE_PLACES, in whatever spelling."""
    if isinstance(data, dict):
        if not TRACE_PLACES.isdisjoint(data) or str(data.get("key")) in TRACE_PLACES:
            return True
        return any(names_a_place(value) for value in data.values())
    return isinstance(data, list) and any(names_a_place(value) for value in data)


def refusal(why: str) -> tuple[int, bytes]:
    """Return the status and the body of a refusal, in the shape of MLflow's errors.

    What is not in the table is not there, as for MLflow itself: clients of other versions ask, and
    go on with what there is.
    """
    status, code = (404, "ENDPOINT_NOT_FOUND") if why == UNKNOWN else (403, "PERMISSION_DENIED")
    return status, json.dumps({"error_code": code, "message": why}).encode()


# What who has not logged in is told, in plain text as by MLflow, with a header.
NO_LOGIN = {
    HTTPStatus.UNAUTHORIZED: (
        b"You are not authenticated: this server wants a name and a password.",
        (b"www-authenticate", b'Basic realm="mlflow"'),
    ),
    HTTPStatus.TOO_MANY_REQUESTS: (
        b"There were too many wrong passwords for this name from this address, or too many wait to "
        b"be checked. Try again in a minute.",
        (b"retry-after", b"3"),
    ),
    HTTPStatus.SERVICE_UNAVAILABLE: (
        b"No password can be checked: the database of users does not answer.",
        (b"retry-after", b"3"),
    ),
}


class Door(Protocol):
    """What sees to the login of a request before anything of it is read."""

    async def status(self, scope: Scope, path: str) -> HTTPStatus:
        """Return OK for a right login, or the status of the refusal.

        Args:
            scope: the request.
            path: its path as the table writes it.
        """


class Models(Protocol):
    """What the guard asks the model registry."""

    def name_now(self, name: str, created: int) -> str | None:
        """Return the present name of the registered model that was made then; None for deleted.

        Args:
            name: what it was called once.
            created: when it was made, in milliseconds.
        """


@dataclass
class Guard:
    """An application with the guard in front of it.

    Attributes:
        application: what is guarded.
        table: what is asked of each request.
        prefix: what MLflow puts before its paths (--static-prefix).
        door: tells whether who asks has logged in; None where nobody does.
        models: knows models by other names than they have now; None where nobody does.
    """

    application: Application
    table: Table
    prefix: str = ""
    door: Door | None = None
    models: Models | None = None

    def rule(self, method: str, path: str, root_path: str = "") -> Rule:
        """Return what is asked of a request, before anything else is known of it."""
        if doubtful(path):
            return Rule("nobody", closed=DOUBTFUL)
        found = self.table.find(method, self.routed(path, root_path))
        return found or Rule("nobody", closed=UNKNOWN)

    def why_not(self, method: str, path: str, root_path: str = "") -> str:
        """Return why nobody may make a request; empty where somebody may."""
        return self.rule(method, path, root_path).closed

    def routed(self, path: str, root_path: str = "") -> str:
        """Return a path as the table writes it."""
        for before in (root_path.rstrip("/"), self.prefix.rstrip("/")):
            if before and path.startswith(before + "/"):
                path = path[len(before) :]
        return path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            return await self.application(scope, receive, send)
        if scope["type"] != "http":  # MLflow has no WebSocket
            return await send({"type": "websocket.close", "code": 1008})
        root_path = scope.get("root_path", "")
        rule = self.rule(scope["method"], scope["path"], root_path)
        if rule.closed:
            status, body = refusal(rule.closed)
            return await answer(scope, send, status, body, (b"content-type", b"application/json"))
        dropped = b""
        if rule.who == "everyone":
            receive = without_body(receive)
        if self.door:
            found = await self.door.status(scope, self.routed(scope["path"], root_path))
            if rule.who == "everyone" and found == HTTPStatus.UNAUTHORIZED:
                dropped = b"authorization"  # as nobody: MLflow answers, or asks for a login
            elif found != HTTPStatus.OK:
                body, header = NO_LOGIN[found]
                return await answer(scope, send, found, body, header)
        if self.models and self.routed(scope["path"], root_path) == MODEL:
            named = await asyncio.to_thread(by_name_now, scope["query_string"], self.models)
            if named is None:
                said = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": GONE}
                kind = (b"content-type", b"application/json")
                gone = json.dumps(said).encode()
                return await answer(scope, send, HTTPStatus.NOT_FOUND, gone, kind)
            scope = {**scope, "query_string": named}
        # Names are the same in any case, and MLflow compares them to the letter.
        headers = [(name, value.lower() if name == b"host" else value)
                   for name, value in scope.get("headers", ()) if name != dropped]  # fmt: skip
        return await self.application({**scope, "headers": headers}, receive, send)


def by_name_now(query: bytes, models: Models) -> bytes | None:
    """Return a query for a registered model, by its present name where it says when it was made.

    MLflow then decides whether who asks may read that one. None where it has been deleted, whoever
    has its name since.
    """
    asked = parse_qs(query.decode("latin-1"), keep_blank_values=True)
    match asked.get("name"), asked.get("created"):
        case [name], [created] if MOMENT.fullmatch(created):
            now = models.name_now(name, int(created))
            return None if now is None else urlencode({"name": now}).encode()
    return query


async def answer(
    scope: Scope, send: Send, status: int, body: bytes, header: tuple[bytes, bytes]
) -> None:
    """Answer a request, whose body nobody has read."""
    headers = [header, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


def without_body(receive: Receive) -> Receive:
    """Return what an application receives of a request whose body nobody needs."""
    begun = False

    async def received() -> MutableMapping[str, Any]:
        nonlocal begun
        if not begun:
            begun = True
            return {"type": "http.request", "body": b"", "more_body": False}
        while (message := await receive())["type"] != "http.disconnect":
            pass
        return message

    return received


# MLflow's own business --------------------------------------------------------------------------


class Nobody:
    """Nobody logs in: whoever reaches the server may do all that the table does not close."""

    asks = False
    name = ""

    def who(self) -> Nobody:
        """Return whoever asks."""
        return self

    def is_administrator(self) -> bool:
        """Return true: there is no other."""
        return True

    def may_read_experiment(self, experiment_id: str) -> bool:
        """Return true."""
        return True

    def may_edit_experiment(self, experiment_id: str) -> bool:
        """Return true."""
        return True

    def may_read_model(self, name: str) -> bool:
        """Return true."""
        return True


class BasicAuthUser:
    """A user of MLflow's basic-auth, within a request that it has let through."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._administrator = bool(internals.GET_USER.get()(name).is_admin)

    def is_administrator(self) -> bool:
        """Tell whether she may do everything."""
        return self._administrator

    def may_read_experiment(self, experiment_id: str) -> bool:
        """Tell whether she may read it."""
        return self.is_administrator() or internals.may(self.name, "read", experiment_id)

    def may_edit_experiment(self, experiment_id: str) -> bool:
        """Tell whether she may change it."""
        return self.is_administrator() or internals.may(self.name, "update", experiment_id)

    def may_read_model(self, name: str) -> bool:
        """Tell whether she may read a registered model."""
        return self.is_administrator() or bool(internals.MAY_READ_MODEL.get()(name, self.name))


class BasicAuth:
    """MLflow's basic-auth."""

    asks = True

    def who(self) -> Who | None:
        """Return who makes the present request of Flask."""
        from flask import g

        name = getattr(g, internals.AUTHENTICATED_USER.value, None)
        return BasicAuthUser(name) if name else None


@dataclass
class BasicAuthDoor:
    """The door of basic-auth: a name and a password in each request.

    Attributes:
        logins: who checks them.
        proxied: whether a proxy alone reaches the server.
        token: the password by which MLflow's own jobs ask the AI gateway; empty for none.
    """

    logins: Logins
    proxied: bool
    token: str = ""

    async def status(self, scope: Scope, path: str) -> HTTPStatus:
        """Return OK for a right login, or the status of the refusal."""
        of_gateway = path.startswith("/gateway/")
        found = None
        if of_gateway:  # a key of the provider's may be where the login is elsewhere
            found = guard_logins.header(scope, internals.GATEWAY_HEADER.value)
        login = guard_logins.read(found or guard_logins.header(scope, "Authorization"))
        if login is None:
            return HTTPStatus.UNAUTHORIZED
        if of_gateway and self.token:
            if secrets.compare_digest(login.password.encode(), self.token.encode()):
                return HTTPStatus.OK  # MLflow looks itself
        status = await self.logins.status(login, guard_logins.client(scope, self.proxied))
        CHECKED.set(login if status == HTTPStatus.OK else None)
        return status


def basic_auth_door(settings: Mapping[str, str]) -> BasicAuthDoor:
    """Return the door of basic-auth, and have MLflow believe what is found there."""
    check, cached = internals.AUTHENTICATE_USER.get(), internals.AUTHENTICATE_CACHED.get()
    looking: ContextVar[bool] = ContextVar("looking", default=False)

    def authenticate_user(name: str, password: str, **options: Any) -> bool:
        if looking.get():
            return False
        return CHECKED.get() == (name, password) or check(name, password, **options)

    internals.AUTHENTICATE_USER.replace(authenticate_user)

    def known(login: guard_logins.Login) -> bool:
        """Tell whether MLflow's cache has it, which is all that there is without the check."""
        before = looking.set(True)
        try:
            return cached(*login) is not None
        finally:
            looking.reset(before)

    def right(login: guard_logins.Login) -> bool:
        return cached(*login) is not None

    return BasicAuthDoor(
        Logins(known, right, int(settings.get("MLFLOW_GUARD_FAILURES") or 0)),
        bool(settings.get("MLFLOW_LISTEN_SOCKET") or settings.get("MLFLOW_LISTEN_TLS_CLIENT_CA")),
        internals.GATEWAY_TOKEN.get().get() or "",
    )


class MlflowStore:
    """The server's tracking store."""

    def locations(self, experiment_id: str = "") -> list[tuple[str, str]]:
        """Return one experiment or all, each with its location: two columns, and no tags."""
        experiment = internals.SQL_EXPERIMENT.get()
        with internals.session() as session:
            rows = session.query(experiment.experiment_id, experiment.artifact_location)
            if experiment_id:
                rows = rows.filter(experiment.experiment_id == int(experiment_id))
            rows = rows.all()
        return [(str(known), address or "") for known, address in rows]

    def stamp(self) -> object:
        """Return how many experiments there are, and the newest's number and time."""
        from sqlalchemy import func

        experiment = internals.SQL_EXPERIMENT.get()
        number, made = experiment.experiment_id, experiment.creation_time
        with internals.session() as session:
            found = session.query(func.count(number), func.max(number), func.max(made)).one()
            return tuple(found)

    def run(self, run_id: str) -> tuple[str, str]:
        """Return the experiment of a run, and where its artifacts are."""
        return self._found(internals.run, run_id)

    def model(self, model_id: str) -> tuple[str, str]:
        """Return the experiment of a logged model, and where its artifacts are."""
        return self._found(internals.logged_model, model_id)

    def _found(self, look: Callable[[str], tuple[str, str]], name: str) -> tuple[str, str]:
        from mlflow.exceptions import MlflowException

        try:
            return look(name)
        except MlflowException as error:
            raise LookupError(name) from error


class MlflowModels:
    """The server's model registry."""

    def name_now(self, name: str, created: int) -> str | None:
        """Return the present name of the registered model that was made then; None for deleted."""
        model = internals.SQL_REGISTERED_MODEL.get()
        with internals.registry_session() as session:
            rows = session.query(model.name).filter(model.creation_time == created).all()
        names = {str(known) for (known,) in rows}
        if name in names:
            return name
        return names.pop() if len(names) == 1 else None  # of several nobody knows which


@dataclass
class Asked:
    """What is looked at within MLflow's own application, once it knows who asks.

    Attributes:
        guard: the rules.
        login: who asks.
        places: the rules for places.
        keepers: who may store keys of the AI gateway, besides administrators.
    """

    guard: Guard
    login: Login
    places: Places
    keepers: frozenset[str]

    def why_not(self, method: str, path: str) -> str:
        """Return why the present request is refused; empty for no."""
        rule = self.guard.table.find(method, self.guard.routed(path))
        if rule is None:
            return UNKNOWN
        narrow = rule.who in ("keeper", "administrator")
        if method == "OPTIONS" or not (narrow or rule.check):
            return ""
        who = self.login.who()
        if who is None:
            return "Nobody has logged in."
        if narrow and not (
            who.is_administrator() or (rule.who == "keeper" and who.name in self.keepers)
        ):
            return "Administrators of this server may do this, and you are none."
        return self.bad_data(rule.check, who) if rule.check else ""

    def bad_data(self, check: str, who: Who) -> str:
        """Return what is wrong with the present request's data; empty for nothing.

        It is read by the very functions that MLflow's handlers read it by.
        """
        if check == "tags":
            if names_a_place(internals.REQUEST_JSON.get()()):
                return f"{' and '.join(sorted(TRACE_PLACES))} are tags that MLflow alone sets."
            return ""
        if check == "location":
            message = internals.request(internals.CREATE_EXPERIMENT)
            value, variable = message.artifact_location, "artifact_location"
            look: Callable[..., None] = self.places.check_location
            options: dict[str, Any] = {}
        else:
            message = internals.request(internals.CREATE_MODEL_VERSION)
            if not message.source:
                return ""  # MLflow says so
            value, variable = message.source, "source"
            look = self.places.check_source
            options = {
                "run_id": message.run_id,
                "model_id": message.model_id,
                "prompt": any(tag.key == internals.PROMPT_TAG.value for tag in message.tags),
            }
        try:
            look(value, who, **options)
        except Refused as error:
            return (
                f"{variable} {value!r} is refused: {error}. Artifacts are below the server's own "
                "root, or below those that its administrator lists in mlflow_server_artifact_roots."
            )
        return ""


def without_assistant() -> None:
    """Leave MLflow's Assistant out of the application that is made next: it runs commands."""
    try:
        internals.ASSISTANT_ROUTES.get()
    except ModuleNotFoundError:
        return  # a version that has none
    from fastapi import APIRouter

    internals.ASSISTANT_ROUTES.replace(APIRouter())


def native_routes(application: Any) -> Iterator[tuple[str, str]]:
    """Yield method and path of the routes that FastAPI serves itself."""
    for route in application.routes:
        # FastAPI keeps an included router as one route, and tells its routes by this method.
        contexts = getattr(route, "effective_route_contexts", None)
        for known in contexts() if contexts else [route]:
            for method in known.methods or () if getattr(known, "methods", None) else ():
                yield method, known.path


def flask_routes(application: Any) -> Iterator[tuple[str, str]]:
    """Yield method and path of Flask's routes, in the table's spelling."""
    for rule in application.url_map.iter_rules():
        path = re.sub(
            r"<(?:(path):)?(\w+)>", lambda m: f"{{{m[2]}{':path' * bool(m[1])}}}", rule.rule
        )
        for method in rule.methods - {"HEAD", "OPTIONS"}:
            yield method, path


def confine_traces(places: Places) -> None:
    """Have MLflow read the data of traces, and delete it, where it put it itself.

    Where that is stands in a tag. Whoever may write a trace may have set it, by the API (which is
    looked at) or by an attribute of a span, in which MLflow takes it for a tag.
    """
    from mlflow.exceptions import MlflowException

    def confined(original: Callable[[Any], str], check: Callable[[Any, str], bool]) -> Any:
        def address(trace_info: Any) -> str:
            found = original(trace_info)
            if not check(trace_info, found):
                raise MlflowException("The data of this trace is not where MLflow puts it.")
            return found

        return address

    def own(trace: Any, address: str) -> bool:
        return places.trace_is_there(str(trace.experiment_id), str(trace.trace_id), address)

    def archived(trace: Any, address: str) -> bool:
        return places.archive_is_there(address)

    checks = (
        *((name, own) for name in internals.TRACE_ADDRESSES),
        *((name, archived) for name in internals.ARCHIVE_ADDRESSES),
    )
    for name, check in checks:
        if name.there():
            name.replace(confined(name.get(), check))

    validate = internals.VALIDATE_TRACE_TAG.get()

    def validated(key: Any, value: Any) -> Any:
        if key in TRACE_PLACES:
            raise MlflowException.invalid_parameter_value(f"{key} is a tag that MLflow alone sets.")
        return validate(key, value)

    internals.VALIDATE_TRACE_TAG.replace(validated)


def judge_chosen_places(places: Places) -> None:
    """Have basic-auth judge artifacts by the experiments that they lie in, wherever that is.

    MLflow looks for an experiment's number at the beginning of a path of its artifact routes. Where
    there is none, below a location that somebody chose, its default permission would decide.
    """
    from flask import g, request
    from mlflow.exceptions import MlflowException

    def judged(user: str, action: str, path: str) -> bool | None:
        """Tell whether a user may do something; None where no experiment is concerned."""
        try:
            path = internals.SAFE_PATH.get()(path)  # as the handlers do: it decodes to the end
        except MlflowException:
            return False
        if guard_places.is_put_aside(path):
            return False
        found = places.judges(path, action)
        return (
            all(internals.may_reach(user, action, *one) for one in found.items()) if found else None
        )

    def for_flask(action: str, original: Callable[[], bool]) -> Callable[[], bool]:
        def validator() -> bool:
            path = (request.view_args or {}).get("artifact_path")
            if path is None:
                path = internals.request(internals.LIST_ARTIFACTS).path
            said = judged(getattr(g, internals.AUTHENTICATED_USER.value), action, path)
            return original() if said is None else said

        return validator

    for action, name in internals.PROXY_VALIDATORS.items():
        name.replace(for_flask(action, name.get()))

    of_fastapi = internals.PROXY_VALIDATOR_OF_FASTAPI.get()

    def for_fastapi(path: str, method: str) -> Callable[[str, Any], Awaitable[bool]]:
        original = of_fastapi(path, method)
        action = {"GET": "read", "PUT": "update"}[method]
        artifact = path.partition("/mlflow-artifacts/artifacts/")[2]

        async def validator(user: str, asked: Any) -> bool:
            said = await asyncio.to_thread(judged, user, action, artifact)
            return bool(await original(user, asked)) if said is None else said

        return validator

    internals.PROXY_VALIDATOR_OF_FASTAPI.replace(for_fastapi)


def delete_from_s3_what_is_below() -> None:
    """Have MLflow before 3.17 delete what is below a path, and not all whose name begins so.

    Who may delete the artifacts of experiment 1 would delete those of 10 to 19.
    """
    if internals.S3_WITHIN.there():
        return

    def delete_artifacts(self: Any, artifact_path: str | None = None) -> None:
        bucket, path = internals.s3_place(self, self.artifact_uri)
        path = "/".join(filter(None, (path.rstrip("/"), (artifact_path or "").rstrip("/"))))
        above = f"{path}/" if path else ""
        client, owner = internals.s3_client(self), internals.s3_owner(self)
        pages = client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=bucket, Prefix=path, **owner):
            keys = [found["Key"] for found in page.get("Contents", ())]
            below = [{"Key": key} for key in keys if f"{key}/".startswith(above)]
            if below:
                client.delete_objects(Bucket=bucket, Delete={"Objects": below}, **owner)

    internals.S3_DELETE.replace(delete_artifacts)


def switched_on(settings: Mapping[str, str]) -> list[str]:
    """Return which of SWITCHES are on."""
    jobs = settings.get("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "true").lower() in ("true", "1")
    gateway = settings.get("MLFLOW_GUARD_AI_GATEWAY") == "true"
    return ["jobs"] * jobs + ["gateway"] * gateway


def table(version: str, settings: Mapping[str, str]) -> Table:
    """Return the table for a version of MLflow and these settings."""
    return Table(lines(TABLE.read_text(encoding="utf-8"), version, switched_on(settings)))


def application() -> Guard:
    """Return MLflow's application with the guard in front of it, for uvicorn's --factory."""
    settings = os.environ
    without_assistant()
    flask_application, version = internals.FLASK_APPLICATION.get(), internals.VERSION.get()
    served, asks = internals.application(settings["MLFLOW_GUARD_APPLICATION"])
    login: Login = BasicAuth() if asks else Nobody()

    prefix = settings.get(internals.STATIC_PREFIX.value, "")
    guard = Guard(served, table(version, settings), prefix)
    places = Places(guard_places.of_settings(settings), MlflowStore())
    keepers = frozenset(json.loads(settings.get("MLFLOW_GUARD_AI_GATEWAY_MEMBERS") or "[]"))
    asked = Asked(guard, login, places, keepers)
    confine_traces(places)
    delete_from_s3_what_is_below()
    if login.asks:
        guard.door, guard.models = basic_auth_door(settings), MlflowModels()
        judge_chosen_places(places)

    def look_at_request() -> Any:
        from flask import Response, request

        if why := asked.why_not(request.method, request.path):
            status, body = refusal(why)
            return Response(body, status=status, mimetype="application/json")
        return None

    # After MLflow's own functions, which see to the login.
    flask_application.before_request(internals.CATCH.get()(look_at_request))

    # FastAPI's routes do not come past Flask: there nobody tells who asks.
    native = set(native_routes(served))
    if login.asks:
        narrow = {
            (line.method, line.path)
            for line in guard.table.routes
            if line.rule.who in ("keeper", "administrator") or line.rule.check
        }
        guard.table = Table(
            line._replace(rule=Rule("nobody", closed=CLOSED))
            if (line.method, guard.prefix + line.path) in native
            and (line.method, line.path) in narrow
            else line
            for line in guard.table.routes
        )
    known = {(line.method, guard.prefix + line.path) for line in guard.table.routes}
    known |= {(line.method, line.path) for line in guard.table.routes}
    for method, path in sorted(native | set(flask_routes(flask_application))):
        if (method, path) not in known:
            logging.getLogger("mlflow.guard").warning(
                "%s %s is not known, and refused", method, path
            )
    return guard
