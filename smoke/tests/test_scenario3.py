"""Scenario 3 as far as it goes without MLflow: users, names, refusals, removal, the one report."""

import base64
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import ADMINISTRATOR, Fake, serve
from mlflow_smoke import cli, http, parts, residence
from mlflow_smoke.names import EXPERIMENT, TAG
from mlflow_smoke.report import CheckFailedError, Kind, Report

SMOKE = Path(__file__).parents[1]
OLD = f"{int(time.time()) - 4000:08x}0123456789ab"

Part = Callable[..., tuple[int, list[dict[str, Any]]]]


@pytest.fixture
def fake() -> Iterator[Fake]:
    """A server on which somebody works already."""
    with serve(Fake()) as fake:
        yield fake


@pytest.fixture
def part(fake: Fake, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Part:
    """Run one part in this process: its exit code, and the documents that it printed."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", fake.address)
    monkeypatch.setattr("mlflow_smoke.interruption.heed", lambda: None)
    monkeypatch.setattr("mlflow_smoke.interruption.ignore", lambda: None)

    def run(
        *arguments: str, told: list[dict[str, Any]], login: tuple[str, str] = ADMINISTRATOR
    ) -> tuple[int, list[dict[str, Any]]]:
        for variable, value in zip(parts.VARIABLES, login, strict=True):
            monkeypatch.setenv(variable, value)
        lines = "".join(json.dumps(document) + "\n" for document in told)
        monkeypatch.setattr("sys.stdin", io.StringIO(lines))
        code = cli.run(["scenario3", *arguments])
        return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return run


def administrator(fake: Fake) -> http.Server:
    return http.Server(fake.address, *ADMINISTRATOR, "")


def work(fake: Fake, token: str) -> None:
    """Leave what the part `log` makes."""
    fake.experiments[EXPERIMENT] = fake.models["iris-classifier"] = token
    fake.owners |= dict.fromkeys([EXPERIMENT, "iris-classifier"], f"smoke-a-{token}")
    fake.runs[EXPERIMENT] = ["cafe"]
    fake.artifacts |= {f"{EXPERIMENT}/cafe/a", f"{EXPERIMENT}/models/m/a"}


def test_two_users_from_begin_to_end(fake: Fake, part: Part) -> None:
    code, told = part("begin", told=[])
    assert code == 0
    users = told[0]["users"]
    assert users["a"][0] in fake.users and fake.users[users["b"][0]] == users["b"][1]
    work(fake, told[0]["token"])
    code, (document,) = part("end", told=told)
    assert code == 0 and document["checks"][-1]["name"] == "what the smoke made"
    assert [check["name"] for check in document["checks"]].count("the administrator") == 1
    assert vars(fake) == {**vars(Fake()), "address": fake.address, "owners": fake.owners, "runs": {
        "hers": ["beef"], EXPERIMENT: []}}  # fmt: skip
    for _, password in users.values():
        assert password not in json.dumps(document)


def test_administrator_is_told_on_a_line(fake: Fake, part: Part) -> None:
    code, told = part("begin", told=[{"administrator": ADMINISTRATOR}], login=("", ""))
    assert code == 0 and len(told) == 1
    assert ADMINISTRATOR[1] not in json.dumps(told)


@pytest.mark.parametrize("login", [(ADMINISTRATOR[0], "old"), ("ada", "ada's"), ("", "")])
def test_no_administrator(fake: Fake, part: Part, login: tuple[str, str]) -> None:
    code, told = part("begin", told=[], login=login)
    assert code == Kind.ENVIRONMENT.exit_code and "the administrator" in told[0]["failure"]
    assert set(fake.users) == set(Fake().users)


def test_what_others_have_added_stays(fake: Fake, part: Part) -> None:
    """On a server where everybody may change everything, they may do it in these seconds."""
    _, told = part("begin", told=[])
    work(fake, told[0]["token"])
    fake.runs[EXPERIMENT].append("feed")
    fake.foreign, fake.versions = {"feed"}, ["cafe", "feed"]
    assert part("end", told=told)[0] == 0
    assert fake.runs[EXPERIMENT] == ["feed"] and fake.versions == ["feed"]
    assert EXPERIMENT in fake.experiments and "iris-classifier" in fake.models


def test_what_others_have_tagged_stays(fake: Fake, part: Part) -> None:
    """Whoever may change something may tag it, and make the administrator remove it."""
    _, told = part("begin", told=[])
    work(fake, told[0]["token"])
    fake.experiments["hers"] = fake.models["hers"] = told[0]["token"]
    fake.versions = ["beef"]
    code, (document,) = part("end", told=told)
    assert code == 0, document["failure"]
    assert {*fake.experiments} == {"Default", "hers"} and {*fake.models} == {"hers"}
    assert (
        fake.artifacts == Fake().artifacts
        and "beef" in fake.runs["hers"]
        and fake.versions == ["beef"]
    )


def test_what_others_have_tagged_and_hidden_from_a_fails_no_smoke(fake: Fake, part: Part) -> None:
    """It would take an upgrade back."""
    fake.hidden = {"hers"}
    _, told = part("begin", told=[])
    work(fake, told[0]["token"])
    fake.experiments["hers"] = fake.models["hers"] = told[0]["token"]
    code, (document,) = part("end", told=told)
    assert code == 0, document["failure"]
    assert {*fake.experiments} == {"Default", "hers"} and {*fake.models} == {"hers"}
    assert len([words for words in document["left_out"] if words.startswith("hers: tagged")]) == 2


def test_a_later_part_says_nothing_of_whom_to_remove(fake: Fake, part: Part) -> None:
    """Who has loaded a model may say anything; `end`, the administrator, removes its own."""
    _, told = part("begin", told=[])
    fake.experiments["hers"] = fake.models["hers"] = "0123"
    fake.users |= {"smoke-a-0123": "hers"}
    lie = Report("scenario3", "here", facts={"token": "0123", "users": {"a": ["ada", ""]}})
    nonsense = {"scenario": "scenario3", "checks": 7}
    code, (document,) = part("end", told=[*told, lie.document(), nonsense])
    assert code == Kind.ENVIRONMENT.exit_code and "it is none" in document["failure"]
    assert {"hers"} <= fake.experiments.keys() & fake.models.keys()
    assert set(fake.users) == {*Fake().users, "smoke-a-0123"}


NOT_SHOWN = {"name": 7, "kind": "model", "expected": 1, "advice": "", "seen": 1, "seconds": "x"}


@pytest.mark.parametrize(
    "lie",
    [
        {"administrator": ["ada", "ada's"], "default_permission": "READ"},
        {"environment": {"http_proxy": "http://127.0.0.1:1", "no_proxy": ""}},
        {"lost": "a part"},
        {"checks": [{**NOT_SHOWN, "kind": 7}]},
        {"checks": [NOT_SHOWN], "left_out": [], "mlflow_version": "", "interruption": "",
         "exit_code": 0, "traceback": ""},
        {"checks": [], "left_out": [7], "mlflow_version": "", "interruption": "",
         "exit_code": 0, "traceback": ""},
        {**Report("scenario3", "here").document(), "subject": 7, "checks": {"a": 1}},
        "}",
        "9" * 5000,
    ],
)  # fmt: skip
def test_a_report_is_a_report_whatever_it_says(
    fake: Fake, part: Part, monkeypatch: pytest.MonkeyPatch, lie: Any
) -> None:
    """The last part knows the administrator's password: no other tells it where, or as whom."""
    _, told = part("begin", told=[])
    work(fake, told[0]["token"])
    if isinstance(lie, dict):
        line = json.dumps({"scenario": "scenario3", **lie})
    else:
        line = f'{{"scenario": {lie}}}'
    known = [json.dumps({"administrator": ADMINISTRATOR}), json.dumps(told[0]), line]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(known)))
    environment = dict(os.environ)
    report = Report("scenario3", "here")
    parts.end(cli.parser().parse_args(["scenario3", "end"]), parts.Known.read(), report)
    assert os.environ.get("http_proxy") == environment.get("http_proxy")
    assert EXPERIMENT not in fake.experiments and set(fake.users) == set(Fake().users)
    assert json.dumps(report.document()) and not report.document()["passed"]


def test_kept_work_loses_its_users_alone(fake: Fake, part: Part) -> None:
    _, told = part("begin", told=[])
    work(fake, told[0]["token"])
    assert part("end", "--keep", told=told)[0] == 0
    assert EXPERIMENT in fake.experiments and "iris-classifier" in fake.models
    assert set(fake.users) == set(Fake().users)


def test_what_cannot_be_removed_is_named(
    fake: Fake, part: Part, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, told = part("begin", told=[])
    monkeypatch.setattr(parts, "remove", lambda *_, **__: [])
    code, (document,) = part("end", told=told)
    assert code == Kind.CLEANUP.exit_code and told[0]["users"]["a"][0] in document["failure"]


@pytest.mark.parametrize("how", ["failed", "lost"])
def test_a_part_that_failed_fails_the_whole_and_leaves_nothing(
    fake: Fake, part: Part, how: str
) -> None:
    _, told = part("begin", told=[])
    work(fake, told[0]["token"])
    if how == "lost":
        told.append({"lost": "see on cl1", "said": "no such\nfile", "advice": "Look there."})
    else:
        report = Report("scenario3", "here")
        with (
            pytest.raises(CheckFailedError),
            report.check("B changes A's work", Kind.PERMISSIONS, "403", "Look there.") as check,
        ):
            check.seen = "200"
        told.append(report.document())
        code, handed = part("look", told=told)
        assert code == Kind.PERMISSIONS.exit_code and handed[:2] == told
    code, (document,) = part("end", told=told)
    wanted = {"failed": Kind.PERMISSIONS, "lost": Kind.ENVIRONMENT}[how]
    assert code == wanted.exit_code and "Look there." in document["failure"]
    assert EXPERIMENT not in fake.experiments and set(fake.users) == set(Fake().users)


@pytest.mark.parametrize("two", [False, True], ids=["3", "2"])
def test_abandoned_smokes_are_removed(fake: Fake, part: Part, two: bool) -> None:
    fake.two = two
    young = f"{int(time.time()) - 60:08x}0123456789ab"  # now: a whole run lasts an hour
    people = {f"smoke-a-{young}": "", "smoke-a-5eed": "", f"smoke-b-{'x' * 20}": ""}
    old = {f"smoke-{letter}-{OLD}": "" for letter in "ab"}
    fake.users |= {**people, **old}
    work(fake, OLD)
    assert part("begin", told=[])[0] == 0
    assert people.keys() <= fake.users.keys() and not old.keys() & fake.users.keys()
    assert EXPERIMENT not in fake.experiments and "hers" in fake.experiments


@pytest.mark.parametrize(
    "there", ["", "experiments", "models", "runs"], ids=lambda there: there or "nothing"
)
def test_whether_there_is_anything_of_anybodys(fake: Fake, part: Part, there: str) -> None:
    """What people call theirs is used where nobody is, and what was found first is what counts."""
    fake.experiments, fake.models, fake.runs = {"Default": ""}, {}, {}
    if there:
        made: dict[str, dict[str, Any]] = {"experiments": {"hers": ""}, "models": {"hers": ""},
                                           "runs": {"0": ["feed"]}}  # fmt: skip
        getattr(fake, there).update(made[there])
    code, told = part("begin", told=[])
    assert code == 0 and told[0]["alone"] == (not there)
    lie = Report("scenario3", "here", facts={"alone": True, "tokens": ["0123"]}).document()
    known = parts.Known([*told, lie])
    assert known.facts["alone"] == (not there)
    assert known.facts["tokens"] == [told[0]["token"]]


@pytest.mark.parametrize("there", [True, False], ids=["programs", "no programs"])
def test_the_last_word_is_said_of_all_that_was_begun(
    fake: Fake, part: Part, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    """Of a smoke that was killed as well; without the server's programs the table says so."""
    asked: list[str] = []

    class Programs:
        @staticmethod
        def forget(token: str, name: str, tag: str) -> str:
            assert name == f"{EXPERIMENT} of smoke {token}" and tag == TAG
            asked.append(token)
            return "somebody's is in it" if token == OLD else ""

    fake.users |= {f"smoke-{letter}-{OLD}": "" for letter in "ab"}
    work(fake, OLD)
    _, told = part("begin", told=[])
    tokens = told[0]["tokens"]
    assert tokens == [told[0]["token"], OLD]
    work(fake, told[0]["token"])
    code, ended = part("end", told=told)
    assert code == 0 and ended[0]["ended"] and ended[0]["tokens"] == tokens
    monkeypatch.setattr("os.geteuid", lambda: 1000)  # who looks is not root
    monkeypatch.setitem(sys.modules, "mlflow_ops", Programs if there else None)
    monkeypatch.setitem(sys.modules, "mlflow_ops.forget", Programs if there else None)
    code, (document,) = part("look", told=ended)
    assert code == 0 and asked == (tokens if there else [])
    last = "rows of deleted things" if there else "what the smoke made"
    assert document["checks"][-1]["name"] == last and document["subject"] == ended[0]["subject"]
    assert not {"ended", "token", "tokens", "alone"} & document.keys()
    [left] = [words for words in document["left_out"] if words.startswith("rows of deleted")]
    assert ("somebody's is in it" if there else "another release") in left


def test_a_name_that_is_taken(fake: Fake) -> None:
    ada = http.Server(fake.address, "ada", "ada's", "")
    assert parts.make(ada, "experiments", [EXPERIMENT, "other"], "t") == EXPERIMENT
    assert parts.make(ada, "experiments", [EXPERIMENT, "other"], "t") == "other"
    with pytest.raises(http.HTTPError):
        parts.make(ada, "experiments", [EXPERIMENT, "other"], "t")
    with pytest.raises(http.HTTPError):
        parts.make(ada, "users", ["smoke", "other"], "t")


def test_refusals(fake: Fake) -> None:
    ada = http.Server(fake.address, "ada", "ada's", "")
    nobody = http.Server(fake.address, "", "", "")
    answers = {"one": ada.status("mlflow/users/list"), "two": nobody.status("mlflow/users/list")}
    assert answers == {"one": 403, "two": 401}
    report = Report("scenario3", fake.address)
    parts.answered(report, "ada", 403, "Look there.", {"one": 403})
    with pytest.raises(CheckFailedError):
        parts.answered(report, "nobody", 403, "Look there.", answers)
    assert report.exit_code == Kind.PERMISSIONS.exit_code and "two: 401" in report.failure


def test_plain_http_must_lead_to_https(part: Part, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example.com")
    code, told = part("begin", told=[])
    assert code == Kind.ENVIRONMENT.exit_code and "MLFLOW_TRACKING_URI" in told[0]["failure"]


def test_settings(tmp_path: Path) -> None:
    file = tmp_path / "server.env"
    file.write_text(
        '# of the service\nMLFLOW_BACKEND_STORE_URI="postgresql+psycopg://m:%22@/m?host=%2Frun"\n'
        'MLFLOW_ARTIFACTS_DESTINATION="s3://b/p"\nAWS_SECRET_ACCESS_KEY="a\\"b\\\\c"\n'
    )
    found = residence.settings(file)
    assert found["AWS_SECRET_ACCESS_KEY"] == 'a"b\\c'  # noqa: S105
    assert residence.kind(found) == "PostgreSQL and S3"
    assert residence.kind({"MLFLOW_BACKEND_STORE_URI": "sqlite:///m.db"}) == "sqlite and nothing"


def test_artifacts_on_disk_are_found(tmp_path: Path) -> None:
    content = os.urandom(500)
    files = {residence.digest(write(tmp_path / "client", content))}
    disk = tmp_path / "disk"
    write(disk / "unlike", os.urandom(500))
    os.mkfifo(disk / "pipe")  # whoever reads it waits for ever
    assert residence.on_disk([disk, tmp_path / "nowhere"], files, "cafe") == []
    spooled, named = write(disk / "a/0001", content), write(disk / "7/cafe/meta.yaml", b"")
    assert set(residence.on_disk([disk], files, "cafe")) == {str(spooled), str(named)}


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_packed_program_on_standard_input(tmp_path: Path) -> None:
    text = subprocess.run(
        [sys.executable, SMOKE / "pack.py", "--text"], capture_output=True, text=True, check=True
    ).stdout
    assert base64.b64decode(text).count(b"PK")
    load = (SMOKE / "mlflow_smoke/load.py").read_text()
    lost = {"lost": "begin", "said": "no python", "advice": "Look there."}
    done = subprocess.run(
        [sys.executable, "-c", load, "scenario3", "end"],
        input=text + json.dumps(lost), capture_output=True, text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == Kind.ENVIRONMENT.exit_code
    assert "no python" in json.loads(done.stdout)["failure"] and not [*tmp_path.iterdir()]
