"""What the smoke of scenario 1 does to MLflow, and no check of it: train, log, load.

Its calls are the thriftiest that do the same (no pyplot, requirements named), as the smoke's are.
"""

import mlflow
import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix

features, species = load_iris(return_X_y=True)
params = {"C": 0.1, "random_state": 42}

mlflow.set_experiment("my-experiment-1")
with mlflow.start_run() as run:
    mlflow.log_params(params)
    model = LogisticRegression(**params).fit(features, species)
    mlflow.log_metric("accuracy", float(model.score(features, species)))
    matrix = confusion_matrix(species, model.predict(features))
    figure = Figure(figsize=(3, 3))
    axes = figure.subplots()
    axes.matshow(matrix, cmap="Blues")
    for (row, column), count in np.ndenumerate(matrix):
        axes.text(column, row, str(count), ha="center", va="center")
    mlflow.log_figure(figure, "confusion_matrix.png")
    signature = mlflow.models.infer_signature(features, model.predict(features))
    mlflow.sklearn.log_model(
        model, name="models", signature=signature, pip_requirements=["scikit-learn"]
    )

print(mlflow.sklearn.load_model(f"runs:/{run.info.run_id}/models").predict(features))
