"""Ask a model over HTTP what app.py has asked it directly, and compare; for ExecStartPost.

`systemctl start` then returns when the model has predicted for a client, and fails, with a
sentence, when it has not. Argument: seconds to wait. Nothing but the standard library is used.
"""

from __future__ import annotations

import http
import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

from ..client import UnixConnection
from ..host.units import main_process_ended

TOLERANCE = 1e-6  # of numbers that several threads may have added up in another order
SHORT = 200  # characters of a prediction in a sentence
LONGEST = 2000  # characters of what a model says of itself; the journal breaks longer lines


class Wrong(Exception):
    """The model must not be asked by anybody; the message is a sentence for people."""


def same(one: Any, other: Any) -> bool:
    """Whether two parsed JSON values are equal, numbers nearly so, and what is no number too."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    numbers = (int, float)
    if isinstance(one, numbers) and isinstance(other, numbers):
        nans = [isinstance(value, float) and math.isnan(value) for value in (one, other)]
        return all(nans) or math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return bool(one == other)


def short(value: Any) -> str:
    """Return a value as JSON that fits into a sentence."""
    text = json.dumps(value)
    return text if len(text) <= SHORT else text[:SHORT] + "..."


def check(runtime: Path, timeout: float) -> str:
    """Ask once, and return a sentence; raises Wrong, or OSError while nobody listens yet."""
    failure = runtime / "failure"
    if failure.exists():
        raise Wrong(failure.read_text(encoding="utf-8"))
    proof = json.loads((runtime / "proof.json").read_text(encoding="utf-8"))
    connection = UnixConnection(str(runtime / "http.sock"), timeout)
    if proof["unproved"]:
        connection.request("GET", "/ping")
        if (status := connection.getresponse().status) != http.HTTPStatus.OK:
            raise Wrong(f"Over HTTP it is not well: {status} to /ping.")
        return f"It is unproved: {proof['unproved']}"
    body = json.dumps(proof["request"])
    connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = answer.read().decode(errors="replace")
    if answer.status != http.HTTPStatus.OK:
        raise Wrong(f"Over HTTP it does not predict: {answer.status} {content[:300]}")
    said = json.loads(content)
    if proof["steady"] and not same(said, proof["answer"]):
        raise Wrong(f"Asked directly it says {short(proof['answer'])}, over HTTP {short(said)}.")
    said = said.get("predictions", said) if isinstance(said, dict) else said
    if proof["expected"] and not same(said, proof["expected"]):
        raise Wrong(
            f"It predicts {short(said)}, and mlflow_model_serving_predictions says "
            f"{short(proof['expected'])}."
        )
    return f"It predicts {short(said)} for {proof['source']}."


def main() -> int:
    """Check until it is so or the time is over; return the exit code."""
    runtime = Path(os.environ["RUNTIME_DIRECTORY"])
    deadline = time.monotonic() + float(sys.argv[1])
    while True:
        try:
            print(check(runtime, max(deadline - time.monotonic(), 1)))
        except Wrong as error:
            words = str(error)
        except OSError:  # no proof yet, or nobody listens
            if main_process_ended():
                words = "It ended before it listened."
            elif time.monotonic() >= deadline:
                words = f"It is not up after {sys.argv[1]} s (mlflow_model_serving_start_seconds)."
            else:
                time.sleep(0.1)
                continue
        else:
            return 0
        # <3> is an error to the journal, by which deploy.py finds it. In one line.
        print(f"<3>{' '.join(words[:LONGEST].split())}", file=sys.stderr)
        return 1
