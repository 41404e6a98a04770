"""Log what a data scientist logs: experiments, runs with all they have, registered models."""

import mlflow
from mlflow import MlflowClient
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

client, (X, y) = MlflowClient(), load_iris(return_X_y=True)
for name in ("irises", "with: other/signs ä"):
    experiment = client.create_experiment(name, tags={"team": name})
    for number in range(2):
        tags = {"number": str(number)}
        with mlflow.start_run(experiment_id=experiment, run_name=f"run {number}", tags=tags):
            for step in range(5):
                mlflow.log_metric("loss", 1 / (step + 1), step=step)
            mlflow.log_params({"C": 0.1, "long": "x" * 4000})
            mlflow.log_text("line\n" * 1000, "notes/deep/text.txt")
            mlflow.sklearn.log_model(
                LogisticRegression(C=0.1 * (number + 1)).fit(X, y),
                "models",
                pip_requirements=[],
                input_example=X[:2],
                registered_model_name="iris-classifier",
            )
client.set_registered_model_alias("iris-classifier", "champion", "3")
client.set_registered_model_tag("iris-classifier", "owner", "ada")
client.set_model_version_tag("iris-classifier", "2", "checked", "yes")
gone = client.create_run(experiment).info.run_id
client.set_terminated(gone, "FAILED")
client.delete_run(gone)
client.delete_experiment(client.create_experiment("deleted"))
