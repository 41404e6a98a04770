"""The guard in front of MLflow: how requests are read, and which places they may name."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable, MutableMapping
from types import SimpleNamespace
from typing import Any

import pytest
from versions import DEFAULT, GUARDED

from mlflow_ops.server import guard, guard_places
from mlflow_ops.server.guard_places import Place, Refused, Roots

TABLE = guard.table(DEFAULT, {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"})
API = "/api/2.0/mlflow"

# Method, path: what the guard says before it knows who asks; empty where it goes on to MLflow.
REQUESTS = {
    ("GET", "/"): "",
    ("HEAD", "/health"): "",
    ("POST", f"{API}/runs/search"): "",
    ("POST", "/ajax-api/2.0/mlflow/runs/search"): "",
    ("OPTIONS", f"{API}/runs/search"): "",
    ("GET", "/api/2.0/mlflow-artifacts/artifacts/1/a b/100% sure.txt"): "",
    ("GET", "/api/3.0/mlflow/traces/tr-1"): "",
    # Not in the table, or not so.
    ("GET", "/docs"): guard.UNKNOWN,
    ("GET", "/openapi.json"): guard.UNKNOWN,
    ("GET", f"{API}/runs/search/"): guard.UNKNOWN,
    ("GET", f"{API}/runs/search"): guard.UNKNOWN,
    ("post", f"{API}/runs/search"): guard.UNKNOWN,
    ("POST", f"{API.upper()}/runs/search"): guard.UNKNOWN,
    ("TRACE", "/"): guard.UNKNOWN,
    ("HEAD", f"{API}/runs/get"): guard.UNKNOWN,  # MLflow checks the permissions of GET alone
    ("OPTIONS", "/docs"): guard.UNKNOWN,
    ("GET", "/api/3.0/mlflow/traces/tr-1/x"): guard.UNKNOWN,
    ("GET", "/ajax-api/3.0/mlflow/assistant/config"): guard.UNKNOWN,
    ("GET", "/api/2.0/mlflow-artifacts/artifacts/"): guard.UNKNOWN,
    ("POST", f"{API}/runs/search;x"): guard.UNKNOWN,
    # Closed, or switched off.
    ("GET", "/signup"): guard.CLOSED,
    ("HEAD", "/signup"): guard.CLOSED,
    ("OPTIONS", "/signup"): guard.CLOSED,
    ("POST", "/ajax-api/3.0/mlflow/demo/generate"): guard.CLOSED,
    ("POST", "/ajax-api/3.0/jobs/"): guard.SWITCHES["jobs"],
    ("POST", "/gateway/x/mlflow/invocations"): guard.SWITCHES["gateway"],
    ("POST", "/gateway/proxy/x/y/z"): guard.SWITCHES["gateway"],
    # Read in more than one way.
    ("POST", f"/{API}/runs/search"): guard.DOUBTFUL,
    ("POST", f"{API}//runs/search"): guard.DOUBTFUL,
    ("POST", f"{API}/./runs/search"): guard.DOUBTFUL,
    ("POST", f"{API}/x/../runs/search"): guard.DOUBTFUL,
    ("GET", "/static-files/../x"): guard.DOUBTFUL,
    ("GET", "/api/2.0/mlflow-artifacts/artifacts/."): guard.DOUBTFUL,
    ("GET", "/api/2.0/mlflow-artifacts/artifacts/1/%2e%2e/2"): guard.DOUBTFUL,
    ("GET", "/api/2.0/mlflow-artifacts/artifacts/1/%252e%252e/2"): guard.DOUBTFUL,
    ("GET", "/api/2.0/mlflow-artifacts/artifacts/1\\2"): guard.DOUBTFUL,
    ("GET", "/api/2.0/mlflow-artifacts/artifacts/1\n2"): guard.DOUBTFUL,
    ("GET", "health"): guard.DOUBTFUL,
}


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """MLflow's application, which is not asked for anything."""


GUARD = guard.Guard(nothing, TABLE)


@pytest.mark.parametrize(("request_", "why"), REQUESTS.items(), ids=" ".join)
def test_requests(request_: tuple[str, str], why: str) -> None:
    assert GUARD.why_not(*request_) == why


def answered(scope: dict[str, Any]) -> list[MutableMapping[str, Any]]:
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        return {}

    asyncio.run(GUARD(scope, receive, send))
    return sent


def test_a_refusal_is_one_of_mlflows_errors() -> None:
    for path, status, code in (
        ("/signup", 403, "PERMISSION_DENIED"),
        ("/docs", 404, "ENDPOINT_NOT_FOUND"),  # clients that know more go on with less
    ):
        start, body = answered({"type": "http", "method": "GET", "path": path})
        assert start["status"] == status
        assert json.loads(body["body"])["error_code"] == code
    assert answered({"type": "websocket", "path": "/"})[0]["type"] == "websocket.close"
    assert answered({"type": "http", "method": "GET", "path": "/health"}) == []


def test_a_name_is_the_same_in_any_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow compares it to the letter, with names in lower case."""
    told: list[list[tuple[bytes, bytes]]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        told.append(scope["headers"])

    headers = [(b"host", b"Team1:5000"), (b"authorization", b"Basic QWRh")]
    scope = {"type": "http", "method": "GET", "path": "/health", "headers": headers}
    monkeypatch.setattr(GUARD, "application", application)
    answered(scope)
    assert told == [[(b"host", b"team1:5000"), (b"authorization", b"Basic QWRh")]]


class Renamed:
    """A registry whose model was called iris when it was made, and is called flowers."""

    def name_now(self, name: str, created: int) -> str | None:
        return "flo & wers" if created == 17 else None


GET_MODEL = f"{API}/registered-models/get"


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        (b"name=iris&created=17", b"name=flo+%26+wers"),
        (b"name=iris", b"name=iris"),  # whatever is called so
        (b"name=iris&created=x", b"name=iris&created=x"),
        (b"name=iris&name=other&created=17", b"name=iris&name=other&created=17"),
        (b"created=17", b"created=17"),
        (b"name=iris&created=18", None),  # deleted, whoever has that name since
        (b"name=iris&created=" + b"9" * 30, b"name=iris&created=" + b"9" * 30),
    ],
)
def test_a_model_is_known_under_its_present_name(
    query: bytes, asked: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[bytes] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        told.append(scope["query_string"])

    monkeypatch.setattr(GUARD, "application", application)
    monkeypatch.setattr(GUARD, "models", Renamed())
    scope = {"type": "http", "method": "GET", "path": GET_MODEL, "query_string": query}
    sent = answered(scope)
    assert told == ([] if asked is None else [asked])
    if asked is None:
        assert sent[0]["status"] == 404
        assert json.loads(sent[1]["body"])["error_code"] == "RESOURCE_DOES_NOT_EXIST"
    told.clear()
    other = {**scope, "path": "/health"}
    assert answered(other) == []
    assert told == [query]


def test_prefixes_are_taken_off_as_the_routers_do() -> None:
    prefixed = guard.Guard(nothing, TABLE, "/team")
    assert prefixed.why_not("GET", "/team/health") == ""
    assert prefixed.why_not("GET", "/root/team/health", "/root") == ""
    assert prefixed.why_not("GET", "/teamhealth") == guard.UNKNOWN


def test_a_switch_or_a_version_opens_what_it_is_about() -> None:
    secrets = ("POST", "/api/3.0/mlflow/gateway/secrets/create")
    dataset = ("GET", "/api/3.0/mlflow/datasets/d-1")
    on = {"MLFLOW_GUARD_AI_GATEWAY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "true"}
    for version, who in (
        ("3.17.2", "member"),
        ("3.15.2", "administrator"),
        ("3.9", "administrator"),
    ):
        opened = guard.table(version, on)
        assert opened.find(*secrets) == guard.Rule("keeper")
        assert opened.find("POST", "/ajax-api/3.0/mlflow/scorer/invoke") == guard.Rule("member")
        found = opened.find(*dataset)
        assert found
        assert found.who == who
    # What a newer MLflow brings is not there before it.
    skill, schedule = "/api/3.0/mlflow/skills/@us/one", "/ajax-api/3.0/mlflow/issues/schedule/state"
    for method, path, who in (("DELETE", skill, "member"), ("POST", schedule, "administrator")):
        assert guard.table("3.18.0", on).find(method, path) == guard.Rule(who)
        assert guard.table("3.17.2", on).find(method, path) is None
    # MLflow runs jobs unless it is told not to.
    assert guard.switched_on({}) == ["jobs"]


class LoggedIn:
    asks = True

    def __init__(self, person: Person | None) -> None:
        self.person = person

    def who(self) -> Person | None:
        return self.person


def test_keepers_and_administrators_are_asked_for_by_name() -> None:
    opened = guard.Guard(nothing, guard.table("3.17.2", {"MLFLOW_GUARD_AI_GATEWAY": "true"}))
    secrets = ("POST", "/api/3.0/mlflow/gateway/secrets/create")
    webhooks = ("GET", "/api/2.0/mlflow/webhooks")
    for person, keepers, may in (
        (Person([]), [], (False, False)),
        (Person([]), ["grace"], (True, False)),
        (None, ["grace"], (False, False)),
    ):
        asked = guard.Asked(opened, LoggedIn(person), PLACES, frozenset(keepers))
        assert (not asked.why_not(*secrets), not asked.why_not(*webhooks)) == may
    nobody = guard.Asked(opened, guard.Nobody(), PLACES, frozenset())
    assert (nobody.why_not(*secrets), nobody.why_not(*webhooks)) == ("", "")
    assert nobody.why_not("GET", "/docs") == guard.UNKNOWN


def test_the_table_has_each_route_once() -> None:
    for version in GUARDED:
        found = [route[:2] for route in guard.table(version, {}).routes]
        assert len(found) == len(set(found))


@pytest.mark.parametrize("line", ["GET /x y", "[people]\nGET /x", "FETCH", "GET x"])
def test_a_bad_table_is_no_table(line: str) -> None:
    with pytest.raises(ValueError):
        list(guard.lines(line, "3.17.2", []))


# Places ------------------------------------------------------------------------------------------

S3 = Roots.of("s3://bucket/team", ["s3://shared/models", "/srv/models"])
SPELLINGS = {
    "mlflow-artifacts:/7/run/artifacts": "s3://bucket/team/7/run/artifacts",
    "s3://bucket/team/7/": "s3://bucket/team/7",
    "s3://shared/models/x": "s3://shared/models/x",
    "/srv/models/x": "/srv/models/x",
    "file:/srv/models/x": "/srv/models/x",
    "FILE:///srv/models/x": "/srv/models/x",
}
REFUSED = [
    "",
    ".",
    "./x",
    "x",
    "prompt-template",
    "/",
    "/etc",
    "file:///etc",
    "file://localhost/srv/models",
    "file:////srv/models",
    "//srv/models",
    "/srv//models/x",
    "/srv/models/../x",
    "/srv/models/./x",
    "/srv/modelsx",
    "/srv/models/%2e%2e/x",
    "/srv/models/x?y",
    "/srv/models/x#y",
    "/srv/models\\x",
    "/srv/models/x\n",
    " /srv/models/x",
    "s3://bucket",
    "s3://bucket/",
    "s3://bucket/other",
    "s3://bucket/teamx",
    "s3://bucket//team/x",
    "s3://bucket/team/../x",
    "s3://x@bucket/team/x",
    "s3://bucket:80/team/x",
    "s3:/bucket/team/x",
    "s3://other/team/x",
    "s3:///team/x",
    "s3a://bucket/team/x",
    "mlflow-artifacts:/../x",
    "mlflow-artifacts:/7/./x",
    "mlflow-artifacts://host/7",
    "mlflow-artifacts:///7",
    "mlflow-artifacts:7",
    "http://127.0.0.1:9/",
    "https://host/api/2.0/mlflow-artifacts/artifacts/7",
    "ftp://h/x",
    "hdfs://h/x",
    "dbfs:/x",
    "gs://b/x",
]


@pytest.mark.parametrize(("address", "place"), SPELLINGS.items())
def test_spellings_of_a_place(address: str, place: str) -> None:
    assert str(S3.place(address)) == place


@pytest.mark.parametrize("address", REFUSED)
def test_what_is_no_place(address: str) -> None:
    with pytest.raises(Refused):
        S3.place(address)


def test_links_lead_out_of_no_root(tmp_path: Any) -> None:
    root = tmp_path / "root"
    (root / "7").mkdir(parents=True)
    (root / "7/out").symlink_to("/etc")
    (root / "7/in").symlink_to(root / "8")
    (tmp_path / "link").symlink_to(root)
    for destination in (root, tmp_path / "link"):
        roots = Roots.of(str(destination), [])
        assert roots.place(f"{destination}/7/in/x")
        with pytest.raises(Refused):
            roots.place(f"{destination}/7/out/x")


class Person:
    name = "grace"

    def __init__(self, reads: Iterable[str], edits: Iterable[str] = ()) -> None:
        self.reads, self.edits = {*reads, *edits}, set(edits)

    def is_administrator(self) -> bool:
        return False

    def may_read_experiment(self, experiment_id: str) -> bool:
        return experiment_id in self.reads

    def may_edit_experiment(self, experiment_id: str) -> bool:
        return experiment_id in self.edits

    def may_read_model(self, name: str) -> bool:
        return name == "hers"


class Store:
    """Experiments 7 and 9 (ada's, 9 where she chose), 8 (grace's), 3 (of MLflow 2, elsewhere)."""

    def locations(self, experiment_id: str = "") -> list[tuple[str, str]]:
        all_of_them = {
            "7": "mlflow-artifacts:/7",
            "8": "mlflow-artifacts:/8",
            "9": "s3://bucket/team/ada/deep",
            "3": "s3://old/3",
            "2": "",
        }
        return [(k, v) for k, v in all_of_them.items() if experiment_id in ("", k)]

    def stamp(self) -> object:
        return 5

    def run(self, run_id: str) -> tuple[str, str]:
        return {
            "r7": ("7", "mlflow-artifacts:/7/r7/artifacts"),
            "r8": ("8", "mlflow-artifacts:/8/r8/artifacts"),
            "r3": ("3", "s3://old/3/r3/artifacts"),
        }[run_id]

    def model(self, model_id: str) -> tuple[str, str]:
        return {
            "m-7": ("7", "mlflow-artifacts:/7/models/m-7"),
            "m-8": ("8", "mlflow-artifacts:/8/models/m-8"),
        }[model_id]


PLACES = guard.Places(S3, Store())
GRACE = Person(reads=["3", "8"], edits=["8"])

# A version's source with what is said besides; whether grace may.
SOURCES: list[tuple[str, dict[str, Any], bool]] = [
    ("mlflow-artifacts:/8/r8/artifacts/model", {}, True),
    ("mlflow-artifacts:/8/r8/artifacts/model", {"run_id": "r8"}, True),
    ("s3://bucket/team/8/r8/artifacts", {}, True),
    ("s3://shared/models/x", {}, True),
    ("runs:/r8/model", {"run_id": "r8"}, True),
    ("models:/m-8", {"model_id": "m-8"}, True),
    ("models:/hers/3", {}, True),
    ("models:/hers@champion", {}, True),
    ("prompt-template", {"prompt": True}, True),
    ("dummy-source", {"prompt": True}, True),
    ("prompt-template", {}, False),
    ("/etc", {"prompt": True}, False),
    ("mlflow-artifacts:/8/r8/artifacts/model", {"run_id": "r7"}, False),
    ("mlflow-artifacts:/8/r8/artifacts/model", {"model_id": "m-7"}, False),
    ("mlflow-artifacts:/8/r8/artifacts/model", {"run_id": "r0"}, False),
    ("mlflow-artifacts:/7/r7/artifacts/model", {}, False),
    ("mlflow-artifacts:/7/r7/artifacts/model", {"run_id": "r8"}, False),
    ("s3://bucket/team/7/r7/artifacts", {"run_id": "r8"}, False),
    ("s3://bucket/team", {}, False),
    ("mlflow-artifacts:/", {}, False),
    ("mlflow-artifacts:/77/x", {}, False),
    ("s3://bucket/team/ada", {}, False),  # another's experiment is below
    ("s3://bucket/team/ada/deep/x", {}, False),
    ("s3://old/3/r3/artifacts", {"run_id": "r3"}, False),  # she may read it, and it is no root
    ("runs:/r3/model", {}, False),
    ("runs:/r7/model", {}, False),
    ("runs:/r8/../r7/model", {}, False),
    ("runs://profile/r8", {}, False),
    ("models:/m-7", {}, False),
    ("models:/m-0", {}, False),
    ("models:/others/3", {}, False),
    ("models:/hers%2Fx/3", {}, False),
    ("models:/others@hers", {}, False),
    ("models://profile/hers/3", {}, False),
    ("models:/", {}, False),
    ("Models:/hers/3", {}, False),
]


@pytest.mark.parametrize(("source", "options", "may"), SOURCES)
def test_sources(source: str, options: dict[str, Any], may: bool) -> None:
    if may:
        PLACES.check_source(source, GRACE, **options)
        return
    with pytest.raises(Refused):
        PLACES.check_source(source, GRACE, **options)


def test_a_link_to_no_experiment_is_no_source(tmp_path: Any) -> None:
    """Both have to lie in an experiment that she may read: the place, and what it leads to."""
    for name in ("7", "8/r8", "tmp"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "8/link").symlink_to("r8")
    (tmp_path / "8/out").symlink_to("../tmp")
    (tmp_path / "8/theirs").symlink_to("../7")
    (tmp_path / "theirs").symlink_to("7")
    (tmp_path / "root").symlink_to(tmp_path)
    for destination in (tmp_path, tmp_path / "root"):
        places = guard.Places(Roots.of(str(destination), []), Store())
        places.check_source("mlflow-artifacts:/8/r8", GRACE)
        places.check_source("mlflow-artifacts:/8/link", GRACE)
        for refused in ("8/out", "8/theirs", "8/theirs/x"):
            with pytest.raises(Refused):
                places.check_source(f"mlflow-artifacts:/{refused}", GRACE)
        with pytest.raises(Refused):
            places.check_location("mlflow-artifacts:/theirs/x", GRACE)


LOCATIONS = {
    "": True,
    "mlflow-artifacts:/grace/x": True,
    "s3://bucket/team/grace": True,
    "s3://shared/models/grace": True,
    "mlflow-artifacts:/": False,
    "s3://bucket/team": False,
    "s3://shared/models": False,
    "s3://bucket": False,
    "mlflow-artifacts:/10": False,
    "mlflow-artifacts:/10/x": False,
    "mlflow-artifacts:/8/x": False,
    "mlflow-artifacts:/007": False,
    # What MLflow's registry of skills keeps there is not to be judged by an experiment around it.
    "mlflow-artifacts:/skills": False,
    "mlflow-artifacts:/Skills/one": False,
    "s3://bucket/team/skills/@us/one": False,
    "s3://shared/models/skills": True,
    "mlflow-artifacts:/skillset": True,
    "s3://bucket/team/ada": False,
    "s3://bucket/team/ada/deep": False,
    "s3://bucket/team/ada/deep/er": False,
    "s3://bucket/team/ada/dee": True,
    "/etc": False,
    "dbfs:/x": False,
}


@pytest.mark.parametrize(("address", "may"), LOCATIONS.items())
def test_locations(address: str, may: bool) -> None:
    if may:
        PLACES.check_location(address, GRACE)
        return
    with pytest.raises(Refused):
        PLACES.check_location(address, GRACE)


def test_whose_experiment_it_is_may_share_its_place() -> None:
    PLACES.check_location("s3://bucket/team/ada/deep/er", Person([], edits=["9"]))
    PLACES.check_location("s3://bucket/team/ada/deep/er", guard.Nobody())
    with pytest.raises(Refused):
        PLACES.check_location("/etc", guard.Nobody())


def test_a_root_around_the_servers_own_opens_no_experiment() -> None:
    around = guard.Places(Roots.of("/srv/mlflow/artifacts", ["/srv/mlflow"]), Store())
    around.check_source("/srv/mlflow/artifacts/8/x", GRACE)
    for source in ("/srv/mlflow/artifacts/7/x", "/srv/mlflow", "/srv/mlflow/artifacts"):
        with pytest.raises(Refused):
            around.check_source(source, GRACE)
    for location in ("/srv/mlflow/artifacts/12", "/srv/mlflow", "/srv/mlflow/artifacts"):
        with pytest.raises(Refused):
            around.check_location(location, GRACE)


def test_traces_are_where_mlflow_puts_them() -> None:
    assert PLACES.trace_is_there("7", "tr-1", "mlflow-artifacts:/7/traces/tr-1/artifacts")
    assert PLACES.trace_is_there("3", "tr-1", "s3://old/3/traces/tr-1/artifacts")
    for experiment, address in (
        ("7", "/etc"),
        ("8", "mlflow-artifacts:/7/traces/tr-1/artifacts"),
        ("0", "/etc"),
    ):
        assert not PLACES.trace_is_there(experiment, "tr-1", address)
    # Who writes a trace names it.
    for name in ("../../8/traces/tr-1", "..", "", "../../8/0123/artifacts#", "tr-1?x"):
        address = f"mlflow-artifacts:/7/traces/{name}/artifacts"
        assert not PLACES.trace_is_there("7", name, address), name
    assert PLACES.archive_is_there("s3://shared/models/archive")
    assert not PLACES.archive_is_there("mlflow-artifacts:/7/x")


def test_requests_about_traces_set_no_place() -> None:
    bad: list[Any] = [
        {"key": "mlflow.artifactLocation", "value": "/etc"},
        {"tags": [{"key": "mlflow.trace.archiveLocation"}]},
        {"trace": {"traceInfo": {"tags": {"mlflow.artifactLocation": "/etc"}}}},
    ]
    assert all(map(guard.names_a_place, bad))
    assert not guard.names_a_place({"key": ["x"], "value": "mlflow.artifactLocation", "n": 1})


class Growing(Store):
    """The experiments that a test says, and how often they were read."""

    def __init__(self, **addresses: str) -> None:
        self.addresses, self.read = addresses, 0

    def stamp(self) -> object:
        return len(self.addresses)

    def locations(self, experiment_id: str = "") -> list[tuple[str, str]]:
        self.read += 1
        return [(number[1:], address) for number, address in self.addresses.items()]


# A path of the artifact routes, what is done there; the experiments that judge, the path in each.
JUDGES: list[tuple[str, str, dict[str, str]]] = [
    ("7/r/artifacts/x", "read", {"7": "r/artifacts/x"}),
    ("6/placed/r/x", "manage", {"6": "placed/r/x"}),  # MLflow goes by the number
    ("team/ada/r/artifacts/x", "read", {"4": "r/artifacts/x"}),
    ("team/ada", "read", {"4": ""}),
    ("team/ada/in/r/x", "read", {"4": "in/r/x", "5": "r/x"}),  # neither gains over the other
    ("team/ada/in/r/x", "update", {"4": "in/r/x", "5": "r/x"}),
    ("team", "read", {}),
    ("team", "manage", {"4": "", "5": ""}),
    ("team", "update", {"4": "", "5": ""}),
    ("", "read", {}),
    ("team/adam/x", "manage", {}),
    ("elsewhere/x", "update", {}),
]


@pytest.mark.parametrize(("path", "action", "judges"), JUDGES)
def test_a_chosen_place_is_judged_by_its_experiments(
    path: str, action: str, judges: dict[str, str]
) -> None:
    chosen = {"_6": "mlflow-artifacts:/6", "_4": "mlflow-artifacts:/team/ada"}
    chosen |= {"_5": "s3://bucket/team/team/ada/in/", "_1": "mlflow-artifacts:/", "_2": "s3://b/x"}
    chosen |= {"_8": "mlflow-artifacts:/6/placed", "_9": ""}
    assert guard.Places(S3, Growing(**chosen)).judges(path, action) == judges


def test_what_links_lead_to_judges_too(tmp_path: Any) -> None:
    (tmp_path / "ada").mkdir()
    (tmp_path / "link").symlink_to("ada")
    store = Growing(_4="mlflow-artifacts:/ada", _5="mlflow-artifacts:/link")
    places = guard.Places(Roots.of(str(tmp_path), []), store)
    assert places.judges("link/x", "read") == {"4": "x", "5": "x"}


def test_locations_are_read_again_when_there_are_others() -> None:
    store = Growing(_4="mlflow-artifacts:/ada")
    places = guard.Places(S3, store)
    assert places.judges("7/x", "read") and store.read == 0
    for _ in range(3):
        assert places.judges("ada/x", "read") == {"4": "x"}
        assert places.judges("grace/x", "read") == {}
    assert store.read == 1
    store.addresses["_5"] = "mlflow-artifacts:/grace"
    assert places.judges("grace/x", "read") == {"5": "x"}
    assert store.read == 2


def test_what_no_new_one_could_name_is_counted_and_named() -> None:
    experiments = [("1", "a", "mlflow-artifacts:/1"), ("2", "b\n\x1bc", "/mnt/b"), ("3", "c", "")]
    experiments += [("4", "d", "s3://bucket/team/4/"), ("5", "e", "mlflow-artifacts:/ada")]
    versions = [("m 1", "models:/m-1", ""), ("m 2", "s3://old/m", ""), ("m 3", "runs:/r", "")]
    versions += [("p 1", "prompt-template", ""), ("m 4", "mlflow-artifacts:/1/r/m", "1")]
    versions += [("m 5", "mlflow-artifacts:/none/m", ""), ("m 6", "s3://shared/models/m", "")]
    versions += [(f"n {number}", f"dbfs:/{number}", "") for number in range(9)]
    outside = [
        "1 experiments are outside of mlflow_server_artifacts_destination: b??c (/mnt/b)",
        "10 model versions are outside of mlflow_server_artifacts_destination: "
        "m 2 (s3://old/m), n 0 (dbfs:/0), n 1 (dbfs:/1), ...",
    ]
    assert guard_places.elsewhere(experiments, versions, S3) == outside
    experiments += [("6", "in", "mlflow-artifacts:/1/x"), ("7", "on", "s3://bucket/team/ada")]
    experiments += [("8", "root", "mlflow-artifacts:/"), ("9", "next", "mlflow-artifacts:/12")]
    versions += [("s 1", "s3://bucket/team/1/r/m", "4"), ("s 2", "mlflow-artifacts:/4/r/m", "")]
    assert guard_places.elsewhere(experiments, versions, S3) == [
        *outside,
        "5 experiments share a directory with another: e (mlflow-artifacts:/ada), "
        "in (mlflow-artifacts:/1/x), on (s3://bucket/team/ada), ...",
        "3 model versions come from the directory of an experiment and name no run of it: "
        "m 5 (mlflow-artifacts:/none/m), s 1 (s3://bucket/team/1/r/m), "
        "s 2 (mlflow-artifacts:/4/r/m)",
    ]


def test_a_root_is_written_plainly() -> None:
    assert guard_places.root("/srv//models/") == Place("", ("srv", "models"))
    assert guard_places.root("s3://bucket") == Place("bucket", ())
    for address in ("srv", "/srv/../x", "s3://", "http://h/x"):
        with pytest.raises(Refused):
            guard_places.root(address)


KEYS = ["a/1/r/x", "a/10/r/x", "a/1-", "a/team/ada/x", "ab"]


class Bucket:
    """S3, as MLflow before 3.17 deletes from it: its repository and its client."""

    def __init__(self, artifact_uri: str) -> None:
        self.artifact_uri, self.keys = artifact_uri, KEYS
        self._bucket_owner_params: dict[str, str] = {}
        self._get_s3_client = self.get_paginator = lambda *_: self

    def parse_s3_compliant_uri(self, uri: str) -> tuple[str, str]:
        bucket, _, path = uri.removeprefix("s3://").partition("/")
        return bucket, path

    def paginate(self, Bucket: str, Prefix: str) -> list[dict[str, Any]]:
        found = [{"Key": key} for key in self.keys if key.startswith(Prefix)]
        return [{"Contents": found[:1]}, {"Contents": found[1:]}, {}]

    def delete_objects(self, Bucket: str, Delete: dict[str, Any]) -> None:
        self.keys = [key for key in self.keys if {"Key": key} not in Delete["Objects"]]


@pytest.mark.parametrize(
    ("uri", "path", "gone"),
    [
        ("s3://b/a", "1", ["a/1/r/x"]),
        ("s3://b/a/", "1/r/", ["a/1/r/x"]),
        ("s3://b/a", "1/r/x", ["a/1/r/x"]),
        ("s3://b/a", "team/a", []),
        ("s3://b", "a/1", ["a/1/r/x"]),
        ("s3://b/a", None, KEYS[:-1]),
        ("s3://b", None, KEYS),
    ],
)
def test_who_deletes_from_s3_deletes_what_is_below(
    monkeypatch: pytest.MonkeyPatch, uri: str, path: str | None, gone: list[str]
) -> None:
    """And not what begins so: the owner of experiment 1 has no right to 10."""
    module = SimpleNamespace(S3ArtifactRepository=type("Repository", (Bucket,), {}))
    monkeypatch.setitem(sys.modules, "mlflow.store.artifact.s3_artifact_repo", module)
    guard.delete_from_s3_what_is_below()
    bucket = module.S3ArtifactRepository(uri)
    bucket.delete_artifacts(path)
    assert bucket.keys == [key for key in KEYS if key not in gone]
