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
import re
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

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


# What helps where an input that we have made up is none of the model's.
BETTER = (
    "Log it with input_example=..., or set mlflow_model_serving_request to what one would send to "
    '/invocations, such as {"inputs": [[5.1, 3.5, 1.4, 0.2]]}; or take it into service unproved '
    "(mlflow_model_serving_proof: unproved)."
)


class Unproven(Exception):
    """The model cannot be shown to work; the message is a sentence for people."""


class Unknown(Unproven):
    """Nothing is known that could be asked."""


class Sample(NamedTuple):
    """What to ask a model.

    Attributes:
        source: where that comes from, in words.
        body: the request.
        made_up: whether nobody has said that the model takes it.
    """

    source: str
    body: dict[str, Any]
    made_up: bool = False


def made_from(schema: Any) -> dict[str, Any]:
    """Return a request that fits a signature: zeros, and empty text. Raises Unknown."""
    if schema.is_tensor_spec():
        zeros = {
            spec.name: numpy.zeros([max(size, 1) for size in spec.shape], spec.type).tolist()
            for spec in schema.inputs
        }
        return {"inputs": zeros if schema.has_input_names() else zeros[None]}
    types = [getattr(spec.type, "name", "") for spec in schema.inputs]
    if not {*types} <= {*NEUTRAL}:
        raise Unknown(
            f"Its signature has types that no input can be made for, and it has no input example, "
            f"so that nothing is known to ask it. {BETTER}"
        )
    names = schema.input_names() if schema.has_input_names() else [*range(len(types))]
    row = [NEUTRAL[kind] for kind in types]
    return {"dataframe_split": {"columns": names, "data": [row]}}


def told_by(model: Any) -> dict[str, Any]:
    """Return a request of zeros, as many as the model itself says that it takes; {} for unknown.

    So say models and pipelines of scikit-learn, and those of XGBoost and LightGBM in their own
    ways. They look at names only where they were trained with some.
    """

    def said(*ways: str) -> Any:
        for way in ways:
            found = getattr(model, way, None)
            found = found() if callable(found) else found
            if found is not None:
                return found
        return None

    names = said("feature_names_in_", "feature_names", "feature_name")
    if names is not None and len(names):
        return {"dataframe_split": {"columns": [*map(str, names)], "data": [[0.0] * len(names)]}}
    number = said("n_features_in_", "num_features", "num_feature")
    return {"inputs": [[0.0] * int(number)]} if number else {}


def sample(model: Any, path: str, given: dict[str, Any]) -> Sample:
    """Return what to ask the model. Raises Unknown."""
    if given:
        return Sample("mlflow_model_serving_request", given)
    if example := model.metadata.get_serving_input(path):
        return Sample("its input example", json.loads(example))
    if schema := model.metadata.get_input_schema():
        return Sample("zeros, made from its signature", made_from(schema), made_up=True)
    body = {}
    # Whatever code it is, and not every flavor has a model of its own.
    with contextlib.suppress(Exception):
        body = told_by(model.get_raw_model())
    if body:
        return Sample("zeros, as many as it says that it takes", body, made_up=True)
    raise Unknown(
        f"It has neither an input example nor a signature, and does not say what it takes, so that "
        f"nothing is known to ask it. {BETTER}"
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


def missing(said: str) -> str:
    """Return what to do about a library of the system that a model's packages want, or ''."""
    found = re.search(r"([\w.+-]+\.so[\w.]*): cannot open shared object file", said)
    return (
        ""
        if not found
        else (
            f". {found[1]} is the system's: name the package of Debian's that has it in "
            "mlflow_model_serving_system_packages."
        )
    )


def proved(path: str, given: dict[str, Any], proof: str) -> tuple[Any, dict[str, Any]]:
    """Load a model and have it predict; return it, and what it was asked and said. Raises Unproven.

    Args:
        path: where its files are.
        given: what it is to be asked; nothing for what is known of it.
        proof: "unproved" where it need not predict for what nobody has said that it takes.
    """
    asked, model = None, None
    try:
        model = internals.LOAD_MODEL.get()(path)
        asked = sample(model, path, given)
        answers = [predict(model, asked.body) for _ in range(2)]
    except BaseException as error:
        said = words_of(error)
        # MLflow refuses before it has loaded any.
        if not pickles() and internals.PICKLES.get().name in f"{error} {said}":
            internals.PICKLES.get().set(True)
            return proved(path, given, proof)
        if model is None:
            raise Unproven(f"It does not load: {said}{missing(said)}") from error
        guessed = isinstance(error, Unknown) or bool(asked and asked.made_up)
        if asked:
            said = f"It loads, and does not predict ({asked.source}): {said}"
        if guessed and proof == "unproved":
            return model, {"unproved": said.partition(BETTER)[0].strip(), "pickles": pickles()}
        if guessed and BETTER not in said:
            said = f"{said.rstrip('.')}. {BETTER}"
        raise Unproven(said) from error
    return model, {
        "unproved": "",
        "pickles": pickles(),
        "source": asked.source,
        "request": asked.body,
        "answer": answers[0],
        "steady": answers[0] == answers[1],  # a model that draws lots is asked, and not compared
    }


def application() -> Any:
    """Load the model, have it predict, and return the scoring server for it."""
    deployment = Path(os.environ["MODEL_DEPLOYMENT"])
    runtime = Path(os.environ["RUNTIME_DIRECTORY"])
    asked = json.loads((deployment / "deployment.json").read_text(encoding="utf-8"))
    try:
        # What a release before has deployed says nothing of it, and starts with these programs.
        how = asked.get("proof", "predicts")
        model, proof = proved(str(deployment / "model"), asked["request"], how)
    except Unproven as error:
        leave(runtime / "failure", str(error))
        raise
    proof["expected"] = asked["predictions"]
    leave(runtime / "proof.json", json.dumps(proof))
    return internals.SCORING_APPLICATION.get()(model)
