"""Print what the champion among the registered models predicts, as JSON in the last line."""

import json

import mlflow
from sklearn.datasets import load_iris

model = mlflow.pyfunc.load_model("models:/iris-classifier@champion")
print(json.dumps(model.predict(load_iris().data).tolist()))
