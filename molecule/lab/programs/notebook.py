"""Log as courses write it, with the number of the first experiment; print the run's number."""

import json

import mlflow

client = mlflow.MlflowClient()
client.create_experiment("my-experiment-1")
client.create_registered_model("iris-classifier")
with mlflow.start_run(experiment_id="1") as run:
    mlflow.log_metric("accuracy", 0.9)
    mlflow.log_text("0.9", "accuracy.txt")
client.delete_registered_model("iris-classifier")
client.delete_experiment("1")
print(json.dumps(run.info.experiment_id))
