"""One model, as a web application that has predicted before it listens.

The application is MLflow's own scoring server, the one of `mlflow models serve`. What is added is
one prediction, made before anybody can connect: a model that loads and cannot predict never comes
up, and the first person to ask does not wait for what is only done once. What was asked and said
goes to proof.json, for check.py to ask again over HTTP; a failure to `failure`, in words.

Pickles are loaded only where MLflow has no other way to load the model, and proof.json says so.

uvicorn calls application() in each worker. From the unit: MODEL_DEPLOYMENT, a directory with model/
and deployment.json, and RUNTIME_DIRECTORY.
"""

from __future__ import annotations

import contextlib
import json
import os
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy

from .. import mlflow_internals as internals

# What stands for a value of each type that a signature can have, where nothing better is known.
NEUTRAL = {
    "boolean": False,
    "integer": 0,
    "long": 0,
    "float": 0.0,
    "double": 0.0,
    "string": "",
    "datetime": "2000-01-01T00:00:00",
}


class Unproven(Exception):
    """The model cannot be shown to work; the message is a sentence for people."""


def made_from(schema: Any) -> dict[str, Any]:
    """Return a request that fits a signature: zeros, and empty text. Raises Unproven."""
    if schema.is_tensor_spec():
        zeros = {
            spec.name: numpy.zeros([max(size, 1) for size in spec.shape], spec.type).tolist()
            for spec in schema.inputs
        }
        return {"inputs": zeros if schema.has_input_names() else zeros[None]}
    types = [getattr(spec.type, "name", "") for spec in schema.inputs]
    if not {*types} <= {*NEUTRAL}:
        raise Unproven(
            "Its signature has types that no input can be made for, and it has no input example. "
            "Set mlflow_model_serving_request to what one would send to /invocations."
        )
    names = schema.input_names() if schema.has_input_names() else [*range(len(types))]
    row = [NEUTRAL[kind] for kind in types]
    return {"dataframe_split": {"columns": names, "data": [row]}}


def sample(model: Any, path: str, given: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return what to ask the model, and where that comes from. Raises Unproven."""
    if given:
        return "mlflow_model_serving_request", given
    if example := model.metadata.get_serving_input(path):
        return "its input example", json.loads(example)
    if schema := model.metadata.get_input_schema():
        return "zeros, made from its signature", made_from(schema)
    raise Unproven(
        "It has neither an input example nor a signature, so that nothing is known to ask it. Log "
        "it with input_example=..., or set mlflow_model_serving_request to what one would send to "
        '/invocations, such as {"inputs": [[5.1, 3.5, 1.4, 0.2]]}.'
    )


def predict(model: Any, body: dict[str, Any]) -> Any:
    """Return what the model answers to a request, without any HTTP. Raises Unproven."""
    schema = model.metadata.get_input_schema()
    said = internals.INVOCATIONS.get()(json.dumps(body), "application/json", model, schema)
    if said.status != HTTPStatus.OK:
        raise Unproven(said.response)
    return json.loads(said.response)


def words_of(error: BaseException) -> str:
    """Return the last cause of an exception in a line, without MLflow's wrapping."""
    trace = str(getattr(error, "json_kwargs", {}).get("stack_trace", ""))
    said = trace.strip().splitlines()[-1] if trace else f"{type(error).__name__}: {error}"
    return str(error) if isinstance(error, Unproven) else " ".join(said.split())[:500]


def leave(path: Path, text: str) -> None:
    """Write a file for check.py; once that was satisfied, the directory is not ours."""
    with contextlib.suppress(PermissionError):
        fresh = path.with_name(f"{path.name}.{os.getpid()}")
        fresh.write_text(text, encoding="utf-8")
        fresh.replace(path)


def pickles() -> bool:
    """Whether this MLflow loads pickles; one without the switch does."""
    return not internals.PICKLES.there() or bool(internals.PICKLES.get().get())


def proved(path: str, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Load a model and have it predict; return it, and what it was asked and said. Raises Unproven.

    It may raise whatever the model does.
    """
    stage = "It does not load"
    try:
        model = internals.LOAD_MODEL.get()(path)
        source, body = sample(model, path, given)
        stage = f"It loads, and does not predict ({source})"
        answers = [predict(model, body) for _ in range(2)]
    except BaseException as error:
        said = words_of(error)
        # MLflow refuses before it has loaded any.
        if not pickles() and internals.PICKLES.get().name in f"{error} {said}":
            internals.PICKLES.get().set(True)
            return proved(path, given)
        raise Unproven(said if isinstance(error, Unproven) else f"{stage}: {said}") from error
    return model, {
        "source": source,
        "request": body,
        "answer": answers[0],
        "steady": answers[0] == answers[1],  # a model that draws lots is asked, and not compared
        "pickles": pickles(),
    }


def application() -> Any:
    """Load the model, have it predict, and return the scoring server for it."""
    deployment = Path(os.environ["MODEL_DEPLOYMENT"])
    runtime = Path(os.environ["RUNTIME_DIRECTORY"])
    asked = json.loads((deployment / "deployment.json").read_text(encoding="utf-8"))
    try:
        model, proof = proved(str(deployment / "model"), asked["request"])
    except Unproven as error:
        leave(runtime / "failure", str(error))
        raise
    proof["expected"] = asked["predictions"]
    leave(runtime / "proof.json", json.dumps(proof))
    return internals.SCORING_APPLICATION.get()(model)
