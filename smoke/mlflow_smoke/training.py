"""What a data scientist does: train on Iris, log the run and the model, load the model back."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix

from mlflow_smoke.names import METRIC, MODEL, PARAMS, PICTURE, TAG

PICKLES = "MLFLOW_ALLOW_PICKLE_DESERIALIZATION"


@dataclass(frozen=True)
class Training:
    """A finished run, and what it must give when it is read back."""

    experiment_id: str
    run_id: str
    accuracy: float
    predictions: Any


def train(experiment: str, token: str, during: Callable[[str], None] | None = None) -> Training:
    """Trains a logistic regression on Iris and logs it all in one run.

    Args:
        experiment: name of the experiment, made when it is missing.
        token: marks the run as this smoke's own.
        during: called with the run's id while the run goes on, its metric just logged.

    Returns:
        The finished run.
    """
    mlflow.set_experiment(experiment)
    features, species = load_iris(return_X_y=True)
    with mlflow.start_run(tags={TAG: token}) as run:
        mlflow.log_params(PARAMS)
        model = LogisticRegression(**PARAMS).fit(features, species)
        accuracy = float(model.score(features, species))
        mlflow.log_metric(METRIC, accuracy)
        if during:
            during(run.info.run_id)
        predictions = model.predict(features)
        mlflow.log_figure(picture(confusion_matrix(species, predictions)), PICTURE)
        # MLflow 3 has renamed the argument. Naming the requirements saves it from inferring them,
        # which takes longer than all the rest together.
        place = "name" if int(mlflow.__version__.split(".")[0]) >= 3 else "artifact_path"
        mlflow.sklearn.log_model(
            model,
            signature=mlflow.models.infer_signature(features, predictions),
            pip_requirements=["scikit-learn"],
            **{place: MODEL},
        )
    return Training(run.info.experiment_id, run.info.run_id, accuracy, predictions)


def picture(matrix: Any) -> Figure:
    """A confusion matrix as a small figure; without pyplot, which is slow to import."""
    figure = Figure(figsize=(3, 3))
    axes = figure.subplots()
    axes.matshow(matrix, cmap="Blues")
    for (row, column), count in np.ndenumerate(matrix):
        colour = "white" if count > matrix.max() / 2 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=colour)
    axes.set(xlabel="predicted", ylabel="species")
    return figure


def predicts_the_same(model_uri: str, training: Training) -> str:
    """Loads a model and says how its predictions on Iris compare with those of the training."""
    features, _ = load_iris(return_X_y=True)
    # Without a place of ours, MLflow leaves its copy of the model in /tmp.
    with TemporaryDirectory(prefix="mlflow-smoke-") as folder:
        copy = mlflow.artifacts.download_artifacts(model_uri, dst_path=folder)
        predictions = loaded(copy).predict(features)
    same = int((predictions == training.predictions).sum())
    return f"{same} of {len(features)} predictions the same"


def loaded(copy: str) -> Any:
    """Loads a model's files: a pickle only where MLflow has no other way to load its format.

    What whoever runs this has said of pickles herself, holds.
    """
    if PICKLES in os.environ:
        return mlflow.sklearn.load_model(copy)
    os.environ[PICKLES] = "false"
    try:
        return mlflow.sklearn.load_model(copy)
    except mlflow.MlflowException as error:
        if PICKLES not in str(error):
            raise
        os.environ[PICKLES] = "true"
        return mlflow.sklearn.load_model(copy)
    finally:
        del os.environ[PICKLES]
