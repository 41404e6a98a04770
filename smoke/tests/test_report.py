import json

import pytest
from mlflow_smoke.report import WIDTH, CheckFailedError, Kind, Report, plain, shorten


def fail(report: Report, seen: object = "wrong", kind: Kind = Kind.MODEL) -> None:
    with pytest.raises(CheckFailedError), report.check("model", kind, "right", "Do this.") as check:
        check.seen = seen


def test_passes(report: Report) -> None:
    document = json.loads(json.dumps(report.document()))
    assert document["passed"] and document["exit_code"] == 0 and not document["failure"]
    assert document["checks"][0]["seen"] == "file:///home/ada"
    assert report.table()[-1].startswith("1 checks passed, in ")


def test_first_failure_decides(report: Report) -> None:
    fail(report)
    fail(report, kind=Kind.CLEANUP)
    assert report.exit_code == Kind.MODEL.exit_code
    assert report.failure.startswith("model: expected right; seen: wrong. Do this.")
    assert report.table()[-1].startswith("1 checks passed, 2 failed, in ")
    assert not report.document()["passed"]


def test_exception_is_what_was_seen(report: Report) -> None:
    with pytest.raises(CheckFailedError), report.check("m", Kind.MODEL, "right", "Do this."):
        raise ValueError("first line\nsecond line")
    assert report.checks[-1].seen == "ValueError: first line"
    assert "second line" in report.document()["traceback"]
    assert "second line" not in "\n".join(report.table())


def test_interruption_is_no_success(report: Report) -> None:
    with pytest.raises(KeyboardInterrupt), report.check("m", Kind.MODEL, "right", "Do this."):
        raise KeyboardInterrupt
    report.interrupt("SIGINT", 130)
    assert report.exit_code == 130 and not report.document()["passed"]
    assert "SIGINT" in report.failure


@pytest.mark.parametrize("seen", ["x" * 300, ["ü" * 90], {"a" * 80: "b" * 80}, "two\nlines", None])
def test_table_fits_a_terminal(report: Report, seen: object) -> None:
    fail(report, seen)
    report.left_out.append("y" * 300)
    for line in report.table():
        assert len(line) <= WIDTH
        assert line.isascii() and line.isprintable()


def test_plain() -> None:
    assert plain({"C": 0.1, "names": ["a", "b"], "none": []}) == "C=0.1 names=a, b none=none"


def test_shorten_keeps_both_ends() -> None:
    assert shorten("abcdefghij", 10) == "abcdefghij"
    assert shorten("abcdefghijk", 10) == "abcd...ijk"


def test_exit_codes_are_distinct() -> None:
    codes = [kind.exit_code for kind in Kind]
    assert len(set(codes)) == len(codes) and min(codes) > 2
