"""What was checked, what was expected, what was seen: JSON for programs, a table for people."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

WIDTH = 100  # columns of the table
# What is said of a report that nobody can read. Whoever is in a model may have written it.
NO_REPORT = {
    "lost": "a report",
    "said": "it is none",
    "advice": "Something else than the smoke has spoken. See who can reach the server.",
}


class Kind(Enum):
    """What a check is about. The first check that fails decides the exit code."""

    ENVIRONMENT = (3, "the environment: its activation, its interpreter, MLflow itself")
    TRACKING = (4, "tracking: experiments, runs, parameters, metrics, and where they are stored")
    ARTIFACTS = (5, "artifacts: pictures and model files, and where they are stored")
    MODEL = (6, "the model, loaded back")
    REGISTRY = (7, "the model registry")
    UI = (8, "the user interface")
    CLEANUP = (9, "cleaning up: something left behind, or something of yours changed")
    PERMISSIONS = (10, "permissions: somebody may do what she must not")

    def __init__(self, exit_code: int, meaning: str) -> None:
        self.exit_code = exit_code
        self.meaning = meaning


class CheckFailedError(Exception):
    """A check saw something else than it expected; the report says what."""


@dataclass
class Check:
    """One thing that must be so: it is when `seen` equals `expected`."""

    name: str
    kind: Kind
    expected: Any
    advice: str
    seen: Any = None
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether what was expected was seen."""
        return bool(self.seen == self.expected)

    @property
    def sentence(self) -> str:
        """What is wrong with it and what to do next, in one line."""
        expected, seen = plain(self.expected), plain(self.seen).rstrip(".")
        return f"{self.name}: expected {expected}; seen: {seen}. {self.advice}"


@dataclass
class Report:
    """All checks of one smoke, in order; `subject` is the installation that they are about."""

    scenario: str
    subject: str
    version: str = ""
    checks: list[Check] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    handed_on: list[str] = field(default_factory=list)
    aftermath: str = " and removed what it had made"
    interruption: str = ""
    exit_code: int = 0
    trace: str = ""
    started: float = field(default_factory=time.monotonic)

    @contextmanager
    def check(self, name: str, kind: Kind, expected: Any, advice: str) -> Iterator[Check]:
        """Times one check, whose body sets `seen`; an exception in there counts as seen.

        Args:
            name: what is looked at.
            kind: decides the exit code.
            expected: what `seen` must be equal to.
            advice: a sentence that says what to do when it is not.

        Raises:
            CheckFailedError: when it is not.
        """
        check = Check(name, kind, expected, advice)
        started = time.monotonic()
        try:
            yield check
        except Exception as error:
            check.seen = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            self.trace = self.trace or traceback.format_exc()
        except BaseException:
            check.seen = "stopped before it was seen"
            raise
        finally:
            check.seconds = round(time.monotonic() - started, 3)
            self.checks.append(check)
        if not check.passed:
            self.exit_code = self.exit_code or kind.exit_code
            raise CheckFailedError(name)

    def interrupt(self, reason: str, exit_code: int) -> None:
        """Notes that the smoke was told to stop before its end."""
        self.interruption = f"The smoke was stopped by {reason}{self.aftermath}."
        self.exit_code = exit_code

    def take(self, document: dict[str, Any]) -> None:
        """Takes over the report of another part of the same smoke, as `document` has made it.

        All of it, or nothing: where it could not be shown, that raises what showing it raises.
        """
        checks = [Check(entry["name"], Kind[entry["kind"].upper()], entry["expected"],
                        entry["advice"], entry["seen"], entry["seconds"])
                  for entry in document["checks"]]  # fmt: skip
        trial = Report(self.scenario, self.subject, checks=checks, left_out=document["left_out"])
        json.dumps(trial.document())
        self.checks += checks
        known = self.document()
        self.facts |= {key: value for key, value in document.items() if key not in known}
        self.left_out = [*dict.fromkeys([*self.left_out, *document["left_out"]])]
        self.version = self.version or document["mlflow_version"]
        self.interruption = self.interruption or document["interruption"]
        self.exit_code = self.exit_code or document["exit_code"]
        self.trace = self.trace or document["traceback"]

    @property
    def failures(self) -> list[Check]:
        """The checks that saw something else than they expected."""
        return [check for check in self.checks if not check.passed]

    @property
    def failure(self) -> str:
        """Why the smoke did not pass, and what to do next; empty when it did."""
        if self.interruption:
            return self.interruption
        return " ".join(check.sentence for check in self.failures)

    @property
    def seconds(self) -> float:
        """Wall time so far, in seconds."""
        return round(time.monotonic() - self.started, 1)

    def table(self) -> list[str]:
        """The checks as lines for people, plain ASCII, at most `WIDTH` columns wide."""
        version = f"MLflow {self.version}" if self.version else "MLflow"
        names = max((len(check.name) for check in self.checks), default=0)
        room = WIDTH - names - len("  FAIL    ") - len("   12.3 s")
        lines = [shorten(f"{version}, {self.scenario}: {self.subject}", WIDTH)]
        for check in self.checks:
            mark = "ok" if check.passed else "FAIL"
            value = shorten(plain(check.seen), room)
            lines.append(
                f"  {mark:<4}  {check.name:<{names}}  {value:<{room}}  {check.seconds:5.1f} s"
            )
            if not check.passed:
                lines.append(f"{'expected':>{names + 8}}  {shorten(plain(check.expected), room)}")
        lines += [f"  --    {shorten(text, WIDTH - 8)}" for text in self.left_out]
        failed = len(self.failures)
        count = f"{len(self.checks) - failed} checks passed" + f", {failed} failed" * bool(failed)
        return [*lines, f"{count}, in {self.seconds} s"]

    def document(self) -> dict[str, Any]:
        """The whole report for programs, ready for JSON; times are in seconds."""
        return {
            "scenario": self.scenario,
            "subject": self.subject,
            "mlflow_version": self.version,
            "passed": self.exit_code == 0,
            "exit_code": self.exit_code,
            "failure": self.failure,
            "interruption": self.interruption,
            "seconds": self.seconds,
            **self.facts,
            "checks": [
                {
                    "name": check.name,
                    "kind": check.kind.name.lower(),
                    "passed": check.passed,
                    "expected": check.expected,
                    "seen": check.seen,
                    "seconds": check.seconds,
                    "advice": check.advice,
                }
                for check in self.checks
            ],
            "left_out": self.left_out,
            "table": self.table(),
            "traceback": self.trace,
        }


def plain(value: Any) -> str:
    """A value as people read it: no quotes and braces, one line, ASCII alone."""
    if isinstance(value, dict):
        return " ".join(f"{key}={plain(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value)) or "none"
    return str(value).encode("unicode_escape").decode()


def shorten(text: str, width: int) -> str:
    """The text in at most `width` columns; what is left out goes from its middle."""
    if len(text) <= width:
        return text
    tail = (width - 3) // 2
    return f"{text[: width - 3 - tail]}...{text[-tail:]}"
