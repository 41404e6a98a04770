"""Log what MLflow 3 has beside runs, if it is not there yet; print it as JSON, in the last line."""

import json

import mlflow
from mlflow import MlflowClient

client, name = MlflowClient(), "what MLflow 3 has"
if client.get_experiment_by_name(name) is None:
    mlflow.set_experiment(name)
    with mlflow.start_span("question") as span:
        span.set_inputs({"asked": "ä"})
        span.set_outputs({"answered": [1, 2]})
    mlflow.flush_trace_async_logging()
    mlflow.log_feedback(trace_id=span.trace_id, name="helpful", value=True)
    mlflow.create_external_model(name="elsewhere", params={"depth": "3"}, tags={"by": "ada"})
    mlflow.genai.register_prompt(name="greeting", template="Hello {{name}}")
ids = [client.get_experiment_by_name(name).experiment_id]
[trace] = mlflow.search_traces(locations=ids, return_type="list")
models = client.search_logged_models(ids)
seen = {
    "spans": [[one.name, one.inputs, one.outputs] for one in trace.data.spans],
    "assessments": [[one.name, one.value] for one in trace.info.assessments],
    "models": [[one.model_id, one.name, one.params, one.tags["by"]] for one in models],
    "prompt": mlflow.genai.load_prompt("prompts:/greeting/1").template,
}
print(json.dumps(seen, sort_keys=True))
