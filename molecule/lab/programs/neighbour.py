"""See what one user gains over another, and over the server, by MLflow's API; print it as JSON.

    OWNER=NAME:PASSWORD NEIGHBOUR=... ARTIFACTS=DESTINATION neighbour.py SERVER [CA]

The owner makes two experiments with a run and an artifact, one of them in a place of her choice,
and a model. The neighbour tries to get at them, and at the server's files: first with
NO_PERMISSIONS on the experiments, then, to write, with READ; at last with each permission that the
owner can give. In the answer, `gained` names the requests that gained something, and should be
empty; so should `refused`, those that were refused in spite of a permission.
`denied by` says how the neighbour was kept from reading, and is empty where READ is the default of
an MLflow that cannot except an experiment from it. ARTIFACTS is what the variable
mlflow_server_artifacts_destination says; GATEWAY=on is for a server with the AI gateway. Nothing
but the standard library is used, and of MLflow nothing that not every version 3 has.
"""

import base64
import json
import os
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request
import uuid
from typing import Any, NamedTuple

SERVER, *named = [word.rstrip("/") for word in sys.argv[1:]]
OWNER, NEIGHBOUR = os.environ["OWNER"], os.environ["NEIGHBOUR"]
CONTEXT = ssl.create_default_context(cafile=named[0] if named else None)
API, AJAX, API3, AJAX3 = (
    f"/{form}api/{version}.0/mlflow" for version in (2, 3) for form in ("", "ajax-")
)
MARK = f"secret-{uuid.uuid4().hex}"
NAME = f"neighbour-{uuid.uuid4().hex[:8]}"


def ask(who: str, method: str, path: str, data: Any = None) -> tuple[int, str]:
    """Return the status and the text of a request's answer."""
    body = data if isinstance(data, bytes) or data is None else json.dumps(data).encode()
    kind = "application/octet-stream" if isinstance(data, bytes) else "application/json"
    request = urllib.request.Request(SERVER + path, body, method=method)  # noqa: S310
    request.add_header("Content-Type", kind)
    if who:
        request.add_header("Authorization", "Basic " + base64.b64encode(who.encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=60, context=CONTEXT) as answer:  # noqa: S310
            return answer.status, answer.read().decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(errors="replace")


def made(who: str, method: str, path: str, data: Any = None) -> Any:
    """Return the answer to a request that has to work."""
    status, text = ask(who, method, path, data)
    if status != 200:
        sys.exit(f"{method} {path}: {status} {text}")
    return json.loads(text or "{}")


gained: list[str] = []


def tries(
    what: str,
    method: str,
    path: str,
    data: Any = None,
    who: str = NEIGHBOUR,
    harmless: tuple[str | int, ...] = (),
) -> str:
    """Note a request that is answered by anything but a refusal; return its answer."""
    status, text = ask(who, method, path, data)
    if MARK in text or (status < 400 and text not in harmless and status not in harmless):
        sent = "" if isinstance(data, bytes) else json.dumps(data)[:120]
        gained.append(f"{what}: {method} {path} {sent} -> {status} {text[:80]}")
    return text


class Work(NamedTuple):
    """An experiment of the owner's, with a run and its artifact."""

    experiment: str
    run_id: str
    uri: str
    inner: str
    artifact: str


def work(name: str, **place: str) -> Work:
    experiment = made(OWNER, "POST", f"{API}/experiments/create", {"name": name, **place})
    number = experiment["experiment_id"]
    run = made(OWNER, "POST", f"{API}/runs/create", {"experiment_id": number, "start_time": 1})
    run_id, uri = run["run"]["info"]["run_id"], run["run"]["info"]["artifact_uri"]
    inner = urllib.parse.urlsplit(uri).path.strip("/")
    artifact = f"2.0/mlflow-artifacts/artifacts/{inner}/secret.txt"
    status, text = ask(OWNER, "PUT", f"/api/{artifact}", MARK.encode())
    if status != 200:
        sys.exit(f"the owner's artifact: {status} {text}")
    made(
        OWNER,
        "POST",
        f"{API}/runs/log-metric",
        {"run_id": run_id, "key": MARK, "value": 1, "timestamp": 1},
    )
    return Work(number, run_id, uri, inner, artifact)


CHOSEN = f"mlflow-artifacts:/chosen-{NAME}/by/her"
ordinary, chosen = work(NAME), work(f"{NAME}-chosen", artifact_location=CHOSEN)
made(OWNER, "POST", f"{API}/registered-models/create", {"name": f"{NAME}-own"})
own = made(NEIGHBOUR, "POST", f"{API}/experiments/create", {"name": f"{NAME}-of-neighbour"})
own_run = made(
    NEIGHBOUR,
    "POST",
    f"{API}/runs/create",
    {"experiment_id": own["experiment_id"], "start_time": 1},
)
own_run_id = own_run["run"]["info"]["run_id"]
made(NEIGHBOUR, "POST", f"{API}/registered-models/create", {"name": f"{NAME}-model"})


def grant(permission: str, kind: str, number: str) -> bool:
    """Give the neighbour a permission on what is the owner's; tell whether there is such."""
    given = {
        "username": NEIGHBOUR.partition(":")[0],
        "resource_type": kind,
        "resource_id": number,
    }
    ask(OWNER, "POST", f"{API3}/users/permissions/revoke", given)  # an earlier one
    given["permission"] = permission
    return ask(OWNER, "POST", f"{API3}/users/permissions/grant", given)[0] == 200


def denied(at: Work) -> str:
    """See that the neighbour may not read an experiment; return how, or nothing."""
    if ask(NEIGHBOUR, "GET", f"{API}/runs/get?run_id={at.run_id}")[0] == 403:
        return "NO_PERMISSIONS"  # the server's default
    return "DENY" if grant("DENY", "experiment", at.experiment) else ""  # older ones have none


def writes(at: Work) -> None:
    """What changes the owner's work, or takes it away."""
    experiment, run_id, _, inner, artifact = at
    for form in ("/api", "/ajax-api"):
        tries("overwrite", "PUT", f"{form}/{artifact}", b"x")
        tries("delete", "DELETE", f"{form}/{artifact}")
        tries("delete all", "DELETE", f"{form}/2.0/mlflow-artifacts/artifacts/.")
        above = inner.partition("/")[0]
        tries("delete all", "DELETE", f"{form}/2.0/mlflow-artifacts/artifacts/{above}")
        tries(
            "upload in parts",
            "POST",
            f"{form}/{artifact.replace('artifacts/', 'mpu/create/', 1)}",
            {"num_parts": 1, "path": "secret.txt"},
        )
        root = f"{form}/2.0/mlflow"
        tries(
            "metric",
            "POST",
            f"{root}/runs/log-metric",
            {"run_id": run_id, "key": "k", "value": 1, "timestamp": 1},
        )
        tries(
            "inputs",
            "POST",
            f"{root}/runs/log-inputs",
            {
                "run_id": run_id,
                "datasets": [
                    {"dataset": {"name": "n", "digest": "d", "source_type": "t", "source": "s"}}
                ],
            },
        )
        tries("run deleted", "POST", f"{root}/runs/delete", {"run_id": run_id})
        tries(
            "traces deleted",
            "POST",
            f"{root}/traces/delete-traces",
            {"experiment_id": experiment, "max_timestamp_millis": 9, "max_traces": 9},
        )
        tries(
            "experiment deleted",
            "POST",
            f"{root}/experiments/delete",
            {"experiment_id": experiment},
        )
        tries(
            "trace",
            "POST",
            f"{form}/3.0/mlflow/traces",
            {
                "trace": {
                    "trace_info": {
                        "trace_id": "tr-1",
                        "trace_location": {
                            "type": "MLFLOW_EXPERIMENT",
                            "mlflow_experiment": {"experiment_id": experiment},
                        },
                        "request_time": "2026-01-01T00:00:00Z",
                        "state": "OK",
                    }
                }
            },
        )


def reads(at: Work) -> None:
    """What tells of the owner's work."""
    experiment, run_id, _, inner, artifact = at
    twice = f"%25{ord(inner[0]):x}{inner[1:]}"  # decoded by the web server, and by MLflow again
    for form in ("/api", "/ajax-api"):
        root = f"{form}/2.0/mlflow"
        tries("read", "GET", f"{form}/{artifact}")
        tries("head", "HEAD", f"{form}/{artifact}")
        for dots in ("./", "%2e/", "x/../", "x%2F..%2F", "/"):
            tries("read", "GET", f"{form}/2.0/mlflow-artifacts/artifacts/{dots}{inner}/secret.txt")
        tries("read", "GET", f"{form}/2.0/mlflow-artifacts/artifacts/{twice}/secret.txt")
        for path in (inner, f"{inner}/", f"./{inner}", f"x/../{inner}", twice):
            tries(
                "list",
                "GET",
                f"{form}/2.0/mlflow-artifacts/artifacts?path={path}",
                harmless=('{"files": []}', "{}"),
            )
        tries("list", "GET", f"{form}/2.0/mlflow-artifacts/artifacts", {"path": inner})
        tries("presigned", "GET", f"{form}/2.0/mlflow-artifacts/presigned/{inner}/secret.txt")
        tries(
            "presigned",
            "POST",
            f"{root}/artifacts/presigned-download-url",
            {"run_id": run_id, "path": "secret.txt"},
        )
        tries(
            "presigned",
            "POST",
            f"{root}/artifacts/presigned-upload-url",
            {"run_id": run_id, "path": "secret.txt"},
        )
        tries("list", "GET", f"{root}/artifacts/list?run_id={run_id}")
        tries("run", "GET", f"{root}/runs/get?run_id={run_id}")
        tries("run", "HEAD", f"{root}/runs/get?run_id={run_id}")
        tries("history", "GET", f"{root}/metrics/get-history?run_id={run_id}&metric_key={MARK}")
        tries(
            "history",
            "GET",
            f"{root}/metrics/get-history-bulk?run_id={run_id}&metric_key={MARK}",
            harmless=('{"metrics":[]}',),
        )
        tries(
            "history",
            "GET",
            f"{root}/metrics/get-history-bulk-interval?run_ids={run_id}&metric_key={MARK}&max_results=5",
        )
        tries(
            "runs", "POST", f"{root}/runs/search", {"experiment_ids": [experiment]}, harmless=(200,)
        )
        tries(
            "experiments",
            "POST",
            f"{root}/experiments/search",
            {"max_results": 100},
            harmless=(200,),
        )
    tries("artifact", "GET", f"/get-artifact?run_uuid={run_id}&path=secret.txt")
    tries("artifact", "GET", f"/get-artifact?run_id={own_run_id}&run_uuid={run_id}&path=secret.txt")


def sources() -> None:
    """Places that a model version, an experiment or a trace of the neighbour's may not name."""
    experiment, run_id, uri, inner, artifact = ordinary
    root = os.environ.get("ARTIFACTS", "/var/lib/mlflow/artifacts_local")
    bucket, _, prefix = root.removeprefix("s3://").partition("/")
    addresses = [
        chosen.uri,
        CHOSEN,
        CHOSEN.removesuffix("/by/her"),
        uri,
        f"{uri}/",
        f"mlflow-artifacts:/{inner}",
        "mlflow-artifacts:/",
        "mlflow-artifacts:/.",
        f"mlflow-artifacts://x/{inner}",
        f"mlflow-artifacts:/x/../{inner}",
        f"mlflow-artifacts:/%2e/{inner}",
        f"mlflow-artifacts:/{own['experiment_id']}/../{experiment}",
        f"{SERVER}/api/{artifact}",
        f"{root}/{inner}",
        f"{root}/x/../{inner}",
        f"{root}//{inner}",
        "/etc",
        "file:///etc",
        "file:/etc",
        "file://localhost/etc",
        "/",
        "dbfs:/x",
        "http://127.0.0.1:9/",
        "ftp://127.0.0.1/x",
        "hdfs://127.0.0.1/x",
        "s3://other-bucket/x",
        f"runs:/{run_id}/secret.txt",
        "prompt-template/../../etc",
        "./x",
        "",
    ]
    if root.startswith("s3://"):
        addresses += [
            f"s3://{bucket}/{prefix}{'/' * bool(prefix)}{inner}",
            f"s3://{bucket}",
            f"s3://{bucket}/",
            f"S3://{bucket}/{inner}",
            f"s3://{bucket}//{inner}",
            f"s3://x@{bucket}/{inner}",
        ]
    spellings = [
        {},
        {"run_id": own_run_id},
        {"runId": own_run_id},
        {"tags": [{"key": "mlflow.prompt.is_prompt", "value": "true"}]},
    ]
    for number, address in enumerate(addresses):
        # Each form of the API, and each spelling, with every other address.
        form = ("/api", "/ajax-api")[number % 2]
        for extra in (spellings[number // 2 % 2], spellings[2 + number // 2 % 2]):
            data = {"name": f"{NAME}-model", "source": address, **extra}
            text = tries("source", "POST", f"{form}/2.0/mlflow/model-versions/create", data)
            if '"version"' in text:
                version = json.loads(text)["model_version"]["version"]
                tries(
                    "source read",
                    "GET",
                    f"/model-versions/get-artifact?name={NAME}-model&version={version}&path=secret.txt",
                )
        if address:
            data = {
                "name": f"{NAME}-{number}",
                ("artifact_location", "artifactLocation")[number // 2 % 2]: address,
            }
            tries("location", "POST", f"{form}/2.0/mlflow/experiments/create", data)
    tries(
        "location",
        "POST",
        f"{API}/experiments/create",
        {"name": f"{NAME}-later", "artifact_location": "mlflow-artifacts:/99999"},
    )
    trace = f"tr-{uuid.uuid4().hex}"
    info = {
        "trace_id": trace,
        "trace_location": {
            "type": "MLFLOW_EXPERIMENT",
            "mlflow_experiment": {"experiment_id": own["experiment_id"]},
        },
        "request_time": "2026-01-01T00:00:00Z",
        "state": "OK",
    }
    tag = {"mlflow.artifactLocation": uri}
    tries("trace", "POST", f"{API3}/traces", {"trace": {"trace_info": {**info, "tags": tag}}})
    made(NEIGHBOUR, "POST", f"{API3}/traces", {"trace": {"trace_info": info}})
    for version in (2, 3):
        for key in ("mlflow.artifactLocation", "mlflow.trace.archiveLocation"):
            tries(
                "trace",
                "PATCH",
                f"/api/{version}.0/mlflow/traces/{trace}/tags",
                {"key": key, "value": "/etc"},
            )
    tries(
        "trace ended",
        "PATCH",
        f"{API}/traces/{trace}",
        {
            "request_id": trace,
            "timestamp_ms": 2,
            "status": "OK",
            "tags": [{"key": "mlflow.artifactLocation", "value": "/etc"}],
        },
    )


def closed(who: str) -> None:
    """What the table closes, asked by anybody."""
    for path in ("config", "providers"):
        for spelling in (
            "/ajax-api/3.0/mlflow/assistant/",
            "/ajax-api/3.0/mlflow//assistant/",
            "/ajax-api/3.0/mlflow/%61ssistant/",
            "/ajax-api/3.0/mlflow/x/../assistant/",
            "/ajax-api/3.0/./mlflow/assistant/",
            "/Ajax-Api/3.0/mlflow/assistant/",
        ):
            tries("assistant", "GET", spelling + path, who=who)
    tries("assistant", "PUT", f"{AJAX3}/assistant/config", {"providers": {}}, who=who)
    tries(
        "assistant", "POST", f"{AJAX3}/assistant/message", {"message": "hi", "context": {}}, who=who
    )
    for form in (API3, AJAX3):
        tries(
            "gateway",
            "POST",
            f"{form}/gateway/secrets/create",
            {"secret_name": NAME, "secret_value": {"api_key": "x"}, "provider": "openai"},
            who=who,
        )
        # Where the gateway is on, MLflow lists what the user may use.
        listed = (200,) if os.environ.get("GATEWAY") == "on" else ()
        tries("gateway", "GET", f"{form}/gateway/secrets/list", who=who, harmless=listed)
        tries("gateway", "GET", f"{form}/gateway/endpoints/list", who=who, harmless=listed)
        tries("workspaces", "POST", f"{form}/workspaces", {"name": NAME}, who=who)
    tries("demo", "POST", f"{AJAX3}/demo/generate", {}, who=who)
    tries("jobs", "POST", "/ajax-api/3.0/jobs/", {"job_name": "x", "params": {}}, who=who)
    tries("jobs", "POST", "/ajax-api/3.0/jobs/search", {}, who=who)
    tries(
        "jobs",
        "POST",
        f"{AJAX3}/genai/evaluate/invoke",
        {"experiment_id": ordinary.experiment, "trace_ids": ["x"], "serialized_scorers": ["x"]},
        who=who,
    )
    tries("sign-up", "GET", "/signup", who=who)
    tries("sign-up", "POST", f"{API}/users/create-ui", {}, who=who)
    tries("unknown", "GET", "/docs", who=who)
    tries("unknown", "GET", "/openapi.json", who=who)


refused: list[str] = []
LEVELS = ("READ", "USE", "EDIT", "MANAGE")


def levels(kind: str, number: str, requests: list[tuple[str, str, str, Any]]) -> None:
    """Make requests, each with the least permission that allows it, with each permission."""
    for level in LEVELS:
        if not grant(level, kind, number):
            sys.exit(f"{level} cannot be granted.")
        for least, method, path, data in requests:
            status, text = ask(NEIGHBOUR, method, path, data)
            may = LEVELS.index(level) >= LEVELS.index(least)
            if may != (status == 200):
                said = f"with {level}: {method} {path} -> {status} {text[:80]}"
                (refused if may else gained).append(said)


def of_experiment(at: Work) -> list[tuple[str, str, str, Any]]:
    experiment, run_id, _, inner, artifact = at
    spare = artifact.replace("secret", "spare")
    begun = {"experiment_id": experiment, "start_time": 1}
    return [
        ("READ", "GET", f"{API}/experiments/get?experiment_id={experiment}", None),
        ("READ", "GET", f"{API}/runs/get?run_id={run_id}", None),
        ("READ", "GET", f"/api/{artifact}", None),
        ("READ", "GET", f"/ajax-api/2.0/mlflow-artifacts/artifacts?path={inner}", None),
        ("READ", "GET", f"/get-artifact?run_id={run_id}&path=secret.txt", None),
        ("EDIT", "PUT", f"/api/{spare}", b"x"),
        ("EDIT", "POST", f"{API}/runs/create", begun),
        ("EDIT", "POST", f"{API}/runs/set-tag", {"run_id": run_id, "key": "k", "value": "v"}),
        ("MANAGE", "DELETE", f"/api/{spare}", None),
        ("MANAGE", "POST", f"{API}/experiments/delete", {"experiment_id": experiment}),
        ("MANAGE", "POST", f"{API}/experiments/restore", {"experiment_id": experiment}),
    ]


def of_model(name: str) -> list[tuple[str, str, str, Any]]:
    made(
        OWNER,
        "POST",
        f"{API}/model-versions/create",
        {"name": name, "source": ordinary.uri, "run_id": ordinary.run_id},
    )
    version = {"name": name, "version": "1"}
    tag = {"name": name, "key": "k", "value": "v"}
    file = f"/model-versions/get-artifact?name={name}&version=1&path=secret.txt"
    hers = {"source": own_run["run"]["info"]["artifact_uri"], "run_id": own_run_id}
    return [
        ("READ", "GET", f"{API}/registered-models/get?name={name}", None),
        ("READ", "GET", f"{API}/model-versions/get?name={name}&version=1", None),
        ("READ", "GET", file, None),
        ("EDIT", "PATCH", f"{API}/registered-models/update", {"name": name, "description": "d"}),
        ("EDIT", "POST", f"{API}/registered-models/set-tag", tag),
        ("EDIT", "POST", f"{API}/model-versions/create", {"name": name, **hers}),
        ("MANAGE", "DELETE", f"{API}/model-versions/delete", version),
        ("MANAGE", "DELETE", f"{API}/registered-models/delete", {"name": name}),
    ]


ways = {denied(at) for at in (ordinary, chosen)}
if "" not in ways:
    for at in (ordinary, chosen):
        reads(at)
        writes(at)
    sources()
for at in (ordinary, chosen):
    if not grant("READ", "experiment", at.experiment):
        sys.exit("READ cannot be granted.")
    writes(at)
tries("user", "POST", f"{API}/users/create", {"username": NAME, "password": "a-long-password"})
tries(
    "administrator",
    "PATCH",
    f"{API}/users/update-admin",
    {"username": NEIGHBOUR.partition(":")[0], "is_admin": True},
)
tries(
    "webhook",
    "POST",
    f"{API}/webhooks",
    {
        "name": NAME,
        "url": "http://127.0.0.1:9/",
        "events": [{"entity": "RUN", "action": "CREATED"}],
    },
)
closed(NEIGHBOUR)
closed("")
for what in (f"{API}/experiments/search", "/v1/traces", f"{API}/runs/search"):
    tries("no login", "POST", what, {"max_results": 1}, who="")
# What has to work for the guard to be worth anything.
made(
    NEIGHBOUR,
    "POST",
    f"{API}/model-versions/create",
    {
        "name": f"{NAME}-model",
        "source": own_run["run"]["info"]["artifact_uri"] + "/m",
        "run_id": own_run_id,
    },
)
made(
    NEIGHBOUR,
    "POST",
    f"{API}/experiments/create",
    {"name": f"{NAME}-placed", "artifact_location": CHOSEN[:-1]},
)
# Her place's name begins that of the owner's, whose artifacts are looked at in the end.
beside = f"/api/2.0/mlflow-artifacts/artifacts/{CHOSEN[:-1].partition('/')[2]}"
made(NEIGHBOUR, "PUT", f"{beside}/file", b"x")
made(NEIGHBOUR, "DELETE", beside)
for at in (ordinary, chosen):
    levels("experiment", at.experiment, of_experiment(at))
    status, text = ask(OWNER, "GET", f"/api/{at.artifact}")
    if (status, text) != (200, MARK):
        gained.append(f"the owner's artifact is not as it was: {status}")
levels("registered_model", f"{NAME}-own", of_model(f"{NAME}-own"))
print(json.dumps({"denied by": " ".join(sorted(ways)), "gained": gained, "refused": refused}))
