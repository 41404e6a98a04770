"""What playbooks/promote.yml refuses at once, who logs in, and what an archive may do."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from file_stores import damaged

from mlflow_ops.promote import as_owner
from mlflow_ops.promote.store import Damaged, Left, Store, normal

ROOT = Path(__file__).resolve().parent.parent


def test_bad_values_are_named_all_at_once() -> None:
    command = ["ansible-playbook", "-i", "inventories/scenario2", "playbooks/promote.yml"]
    for variable in (
        "mlflow_promote_source=mlruns",
        "mlflow_promote_source_host=laptop",
        "mlflow_promote_tracking_uri=localhost:5000",
        "mlflow_promote_username=ada",
    ):
        command += ["-e", variable]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    said = " ".join(done.stdout.split())
    for words in (
        'mlflow_promote_source is "mlruns"; it must be an absolute path',
        "mlflow_promote_source_host is laptop, which is no host of the inventory",
        'mlflow_promote_tracking_uri is "localhost:5000"; it must be like http://localhost:5000',
        "mlflow_promote_username and mlflow_promote_password must both be set",
        "Nothing was changed.",
    ):
        assert words in said
    assert said.count("fatal:") == 1


def test_an_archive_writes_files_below_its_directory_and_nothing_else(tmp_path: Path) -> None:
    """It comes from another machine, where anybody may have made it."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as packed:
        for name, kind in (
            ("./0/meta.yaml", tarfile.REGTYPE), ("./0/empty", tarfile.DIRTYPE),
            ("./0/link", tarfile.SYMTYPE), ("./0/link/inner", tarfile.REGTYPE),
            ("./0/hard", tarfile.LNKTYPE), ("./0/second", tarfile.LNKTYPE),
            ("./0/pipe", tarfile.FIFOTYPE), ("./0/disk", tarfile.BLKTYPE),
            ("/absolute", tarfile.REGTYPE),
            ("0/../../above", tarfile.REGTYPE), ("./0/meta.yaml", tarfile.REGTYPE),
        ):  # fmt: skip
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.mode = kind, str(tmp_path), 0o777
            if name == "./0/second":  # another name of a file of the store, as deduplication makes
                member.linkname = "./0/meta.yaml"
            packed.addfile(member)
    archive.seek(0)
    store = tmp_path / "store"
    store.mkdir()
    left = as_owner.unpack(archive, store)
    assert left == [
        "0/link", "0/hard", "0/pipe", "0/disk", "/absolute", "0/../../above", "0/meta.yaml",
    ]  # fmt: skip
    there = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    names = ("", "/meta.yaml", "/empty", "/link", "/link/inner", "/second")
    assert there == {"store", *(f"store/0{name}" for name in names)}


def test_an_archive_does_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of zeros is a thousand times smaller in it."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as packed:
        for name, size in (("0/meta.yaml", 7), ("0/zeros", 1_000_000)):
            member = tarfile.TarInfo(name)
            member.size = size
            packed.addfile(member, io.BytesIO(bytes(size)))
    archive.seek(0)
    free = shutil.disk_usage(tmp_path)._replace(free=as_owner.RESERVE + 999_999)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(OSError, match="'0/zeros' has 1000000 bytes, and 999999 are free"):
        as_owner.unpack(archive, tmp_path)
    assert [path.name for path in (tmp_path / "0").iterdir()] == ["meta.yaml"]


def test_names_in_a_store_are_text_of_one_line(tmp_path: Path) -> None:
    """They stand in the last words of the playbook, for people, or in those it fails with."""
    names = ["0/lïnk", "0/a\n  next  sudo sh b", "0/\x1b]0;c\x07\x9b2J"]
    report = {"failure": f"No {names[1]}{names[2]}", "carried": 0, "lost": 0,
              "named": names, "renames": names[1:]}  # fmt: skip
    role = ROOT / "roles/mlflow_promote"
    *_, fail = yaml.safe_load((role / "tasks/carry.yml").read_text())
    words = (
        "{{ [mlflow_promote_named + mlflow_promote_renames, ansible_failed_result.msg] | to_json }}"
    )
    show = {
        "hosts": "localhost", "connection": "local", "gather_facts": False,
        "vars_files": [f"{role}/defaults/main.yml", f"{role}/vars/main.yml"],
        "vars": {"mlflow_promote_source": "/s", "__mlflow_promote_run": {"answer": report}},
        "tasks": [{"block": [fail], "rescue": [
            {"ansible.builtin.copy": {"content": words, "dest": f"{tmp_path}/words"}}]}],
    }  # fmt: skip
    (tmp_path / "playbook.yml").write_text(yaml.safe_dump([show]))
    subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", "localhost,",
         tmp_path / "playbook.yml", "-e", f"ansible_python_interpreter={sys.executable}"],
        cwd=ROOT, capture_output=True, check=True,
    )  # fmt: skip
    links, failure = json.loads((tmp_path / "words").read_text())
    assert links == ["0/lïnk", *2 * ["0/a?  next  sudo sh b", "0/?]0;c??2J"]]
    assert failure.splitlines()[0] == "No 0/a next sudo sh b0/?]0;c??2J"


# name: (what is set besides the inventory's, who logs in, from where the password comes)
LOGINS: dict[str, tuple[dict[str, object], str, str]] = {
    "a server that asks nobody": ({}, "", ""),
    "the administrator": (
        {"mlflow_server_auth": True}, "admin", "/etc/mlflow/admin_password",
    ),
    "the inventory's administrator": (
        {"mlflow_server_auth": True, "mlflow_server_auth_admin_user": "root",
         "mlflow_server_auth_admin_password": "of the vault"}, "root", "of the vault",
    ),
    "a user": (
        {"mlflow_server_auth": True, "mlflow_promote_username": "ada",
         "mlflow_promote_password": "hers"}, "ada", "hers",
    ),
    "at another server": (
        {"mlflow_server_auth": True, "mlflow_promote_tracking_uri": "http://localhost:5999"},
        "", "",
    ),
}  # fmt: skip


def test_who_logs_in(tmp_path: Path) -> None:
    """Her password goes by standard input, or stays in a file that root alone reads."""
    usual = {
        "mlflow_root": "/opt/mlflow", "mlflow_server_port": 5000,
        "mlflow_server_state_dir": "/var/lib/mlflow", "mlflow_promote_source": "/home/ada/mlruns",
        "__mlflow_promote_directory": {"path": "/var/tmp/x"},  # noqa: S108 not made
    }  # fmt: skip
    result = "{{ [__mlflow_promote_arguments, __mlflow_promote_login.password] | to_json }}"
    show = {
        "hosts": "localhost", "connection": "local", "gather_facts": False,
        "vars_files": [
            f"{ROOT}/roles/mlflow_promote/defaults/main.yml",
            f"{ROOT}/roles/mlflow_promote/vars/main.yml", f"{ROOT}/playbooks/vars/scenario2.yml",
        ],
        "tasks": [
            {"ansible.builtin.copy": {"content": result, "dest": f"{tmp_path}/{case}"},
             "vars": {**usual, **given}}
            for case, (given, _, _) in LOGINS.items()
        ],
    }  # fmt: skip
    (tmp_path / "playbook.yml").write_text(yaml.safe_dump([show]))
    subprocess.run(
        [Path(sys.executable).with_name("ansible-playbook"), "-i", "localhost,",
         tmp_path / "playbook.yml", "-e", f"ansible_python_interpreter={sys.executable}"],
        cwd=ROOT, capture_output=True, check=True,
    )  # fmt: skip
    for case, (_, username, password) in LOGINS.items():
        command, on_input = json.loads((tmp_path / case).read_text())
        options = dict(pairwise(command))
        assert options.get("--username", "") == username, case
        assert (on_input or options.get("--password-file", "")) == password, case
        assert not on_input or on_input not in command, case


# A store ------------------------------------------------------------------------------------------


def opened(root: Path, artifacts: Path | None = None) -> tuple[Store, Left]:
    left = Left(root)
    return Store(root, left, artifacts), left


def test_a_damaged_file_costs_no_more_than_its_run(tmp_path: Path) -> None:
    """And it is named, whatever is wrong with it."""
    sick = damaged(tmp_path)
    store, left = opened(sick.root, tmp_path / "mlartifacts")
    heads = {head.key: head for experiment in store.experiments for head in experiment.runs}
    bodies = {}
    for key, head in heads.items():
        try:
            bodies[key] = store.body(head)
        except Damaged as error:
            left.add("runs", error.path, error.why)
    assert len(bodies) == sick.carried and left.counts["runs"] == sick.left
    for name in sick.named:
        assert any(name in one for one in left.named), name
    whole = {name: bodies[key] for name, key in sick.runs.items() if key in bodies}
    assert [normal(value.value) for value in whole["minus zero"].metrics][1:] == ["0.0"]
    assert whole["größe"].params == {"größe": "学習率"}
    python2 = heads[sick.runs["python 2"]]
    assert (python2.name, python2.status, python2.end) == ("python 2", "RUNNING", 0)
    assert heads[sick.runs["no name"]].name == ""


def test_where_artifacts_are(tmp_path: Path) -> None:
    """In the run's folder, wherever the store was; or where a server kept them; or not here."""
    sick = damaged(tmp_path)
    kept = tmp_path / "mlartifacts"
    store, _ = opened(sick.root, kept)
    folder = {name: sick.root / "1" / key for name, key in sick.runs.items()}
    own = folder["hash"]
    for uri in (
        "file:///somewhere/mlruns/1/{}/artifacts", "/somewhere/mlruns/1/{}/artifacts",
        "./mlruns/1/{}/artifacts", "C:\\Users\\ada\\mlruns\\1\\{}\\artifacts",
        "file:///C:/Users/ada%20b/mlruns/1/{}/artifacts", "file:///other/name/1/{}/artifacts",
    ):  # fmt: skip
        assert store.place(own, uri.format(own.name)) == own / "artifacts", uri
    served = folder["served"]
    uri = f"mlflow-artifacts:/1/{served.name}/artifacts"
    assert store.place(served, uri) == kept / f"1/{served.name}/artifacts"
    assert opened(sick.root)[0].place(served, uri) is None
    away = folder["elsewhere"]
    for uri in (f"s3://bucket/ml/1/{away.name}/artifacts", f"file:///data/1/{away.name}/artifacts",
                f"dbfs:/ml/1/{away.name}/artifacts"):  # fmt: skip
        assert store.place(away, uri) is None, uri
    (kept / f"ml/1/{away.name}/artifacts").mkdir(parents=True)  # a copy of the bucket
    found = store.place(away, f"s3://bucket/ml/1/{away.name}/artifacts")
    assert found == kept / f"ml/1/{away.name}/artifacts"
    for trick in ("mlflow-artifacts:/../../etc/artifacts", "s3://b/../../../etc/passwd"):
        place = store.place(away, trick)
        assert place is None or place.is_relative_to(kept) or place.is_relative_to(away)


def test_no_link_is_followed(tmp_path: Path) -> None:
    """Whether a file, a directory or a whole part of a run is in its place."""
    sick = damaged(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    run = sick.root / "1" / sick.runs["minus zero"]
    (run / "params/link").symlink_to(outside / "secret")
    (run / "tags").rmdir()
    (run / "tags").symlink_to(outside)
    (sick.root / "4").symlink_to(outside)
    (run / "artifacts/link").symlink_to(outside)
    store, left = opened(sick.root)
    [head] = [one for one in store.experiments[0].runs if one.key == run.name]
    body = store.body(head)
    assert "secret" not in str(body) and not store.files(run / "artifacts")
    assert left.counts["links, pipes and the like"] == 4


def test_who_wrote_meanwhile_is_seen(tmp_path: Path) -> None:
    """A value more, a file more, a run more, or one of another time."""
    sick = damaged(tmp_path)
    run = sick.root / "1" / sick.runs["conflict"]
    store, _ = opened(sick.root)
    assert store.stamps() == store.before
    for change in (
        lambda: (run / "params/new").write_text("x"),
        lambda: (run / "metrics/acc").write_text("1700000000000 0.7 0\n"),
        lambda: (sick.root / "1" / ("f" * 32)).mkdir(),
    ):
        before = store.stamps()
        change()
        assert store.stamps() != before


def test_a_registry_is_read(tmp_path: Path) -> None:
    """Names, versions in their order, aliases, tags; what was deleted is not one of them."""
    sick = damaged(tmp_path)
    model = sick.root / "models/iris"
    for number, stage in ((10, "Production"), (9, "None"), (8, "Deleted_Internal")):
        folder = model / f"version-{number}"
        (folder / "tags").mkdir(parents=True)
        (folder / "meta.yaml").write_text(
            f"creation_timestamp: 17\ncurrent_stage: {stage}\ndescription: null\nname: iris\n"
            f"run_id: {sick.runs['hash']}\nsource: models:/m-1\nversion: {number}\n"
        )
    (model / "aliases").mkdir()
    (model / "aliases/champion").write_text("9")
    (model / "meta.yaml").write_text("name: iris\ndescription: of flowers\n")
    copy = model / "version-11"
    copy.mkdir()
    (copy / "meta.yaml").write_text((model / "version-9/meta.yaml").read_text())
    store, left = opened(sick.root)
    [iris] = store.registered
    assert (iris.name, iris.description, iris.aliases) == ("iris", "of flowers", {"champion": 9})
    assert [(one.number, one.stage) for one in iris.versions] == [(9, "None"), (10, "Production")]
    assert left.counts["deleted model versions"] == 1
    assert any("models/iris/version-11/meta.yaml: it is of version 9" in one for one in left.named)


def test_two_promotions_do_not_meet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each would carry every run once."""
    held = as_owner.alone(tmp_path)
    with pytest.raises(SystemExit):
        as_owner.alone(tmp_path)
    assert "Another promotion is at work" in json.loads(capsys.readouterr().out)["failure"]
    os.close(held)
    os.close(as_owner.alone(tmp_path))
    assert not list(tmp_path.iterdir())
