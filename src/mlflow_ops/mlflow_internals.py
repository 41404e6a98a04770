"""All that the programs here use of MLflow and MLflow does not document: this is what may change.

A release of MLflow may rename, move or drop any of it without a word. No other file of the package
names such a thing, so that what a new version breaks is mended here; and
tests/test_mlflow_internals.py looks each of them up in each version that is shipped.

Each is a Name (of MLflow's Python), a Statement (SQL, which names tables and columns) or a Schema
(of a database), with what it is for, and from which version on MLflow has it. What is since "3" is
missing in MLflow 2. Nothing of MLflow is imported before it is used: that takes seconds, and most
programs do without.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

Thing = TypeVar("Thing")

# Since when MLflow has what no version that is shipped has, and what is seen to all the same.
UNKNOWN = "999"

# All there are; the test goes through them.
NAMES: list[Name[Any]] = []
STATEMENTS: list[Statement] = []


def number(version: str) -> tuple[int, ...]:
    """Return a version such as 3.17.2 as numbers that can be compared."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def has(version: str, since: str, until: str = "") -> bool:
    """Tell whether a version of MLflow lies between two: since is within, until is not."""
    return number(since) <= number(version) and not (until and number(until) <= number(version))


@dataclass(frozen=True)
class Name(Generic[Thing]):
    """A name in MLflow's Python.

    Attributes:
        where: the module, a colon, and the name in it; what follows a dot is an attribute of that.
        purpose: what it is, and who needs it for what.
        since: the version that brought it; before that, nobody here asks for it.
        call: how it is called: how many arguments by place, and the names of the others.
        attributes: what its instances, or what it returns, must have: what our code asks for.
        read_by: the modules whose functions look it up when they run, where we replace it. In one
            that reads it no more, we would replace it to no effect.
        value: what it is, where our code goes by that and does not import MLflow to ask.
        written: how the module's source writes it, where it is no attribute of the module's.
    """

    where: str
    purpose: str
    since: str = ""
    call: tuple[int, tuple[str, ...]] | None = None
    attributes: tuple[str, ...] = ()
    read_by: tuple[str, ...] = ()
    value: str = ""
    written: str = ""

    def __post_init__(self) -> None:
        NAMES.append(self)

    def _holder(self) -> tuple[Any, str]:
        """Return what has it as an attribute, and by what name."""
        module, _, path = self.where.partition(":")
        *outer, last = path.split(".")
        found: Any = importlib.import_module(module)
        for part in outer:
            found = getattr(found, part)
        return found, last

    def get(self) -> Thing:
        """Return it. Raises ImportError or AttributeError where this MLflow has none."""
        holder, last = self._holder()
        thing: Thing = getattr(holder, last)
        return thing

    def there(self) -> bool:
        """Tell whether this MLflow has it. Raises ImportError where it lacks the very module."""
        try:
            self.get()
        except AttributeError:
            return False
        return True

    def replace(self, thing: Thing) -> None:
        """Put something else in its place, for this process."""
        holder, last = self._holder()
        setattr(holder, last, thing)


class Statement(str):
    """SQL that names tables and columns of MLflow's.

    Attributes:
        table: the table by which one tells whether this MLflow has all of it.
        schema: tracking or auth.
        since: the version that brought these tables and columns.
        until: the version that has them no more; empty for none.
    """

    table: str
    schema: str
    since: str
    until: str

    def __new__(
        cls, text: str, *, table: str, schema: str = "tracking", since: str = "", until: str = ""
    ) -> Statement:
        """Make one, and have the test know it."""
        made = super().__new__(cls, text)
        made.table, made.schema, made.since, made.until = table, schema, since, until
        STATEMENTS.append(made)
        return made


class Schema(NamedTuple):
    """What a database of MLflow's is made by.

    Attributes:
        scripts: the directory of its migrations, in MLflow's package.
        revisions: how to ask for its revision; of the tables, the first that is there counts.
    """

    scripts: str
    revisions: tuple[Statement, ...]


# The web server: server/serve.py ------------------------------------------------------------------

VERSION: Name[str] = Name("mlflow.version:VERSION", "MLflow's version, as it tells it itself.")
COMMAND_LINE: Name[Callable[[list[str]], None]] = Name(
    "mlflow.cli:cli",
    "The program `mlflow`, of click: serve.py runs `mlflow server` by it.",
    call=(1, ()),
)
START_CHILD: Name[Callable[..., Any]] = Name(
    "mlflow.server:_exec_cmd",
    "Starts the web server's process, by its command. serve.py becomes that process instead.",
    call=(1, ("extra_env", "capture_output")),
    read_by=("mlflow.server",),
)
STATIC_PREFIX: Name[str] = Name(
    "mlflow.server.handlers:STATIC_PREFIX_ENV_VAR",
    "The variable by which the web server's process learns of --static-prefix; the guard, too.",
    value="_MLFLOW_STATIC_PREFIX",
)
ARTIFACT_ROOT: Name[str] = Name(
    "mlflow.server:ARTIFACT_ROOT_ENV_VAR",
    "The variable for where new experiments go. The role mlflow_client sets it for people.",
    value="_MLFLOW_SERVER_ARTIFACT_ROOT",
)

# The application: server/guard.py -----------------------------------------------------------------

# The module of basic-auth. It has one argument that makes an application; the others are one.
AUTH = "mlflow.server.auth"

AUTHENTICATE: Name[Callable[[], Any]] = Name(
    f"{AUTH}:authenticate_request_basic_auth",
    "Asks for a name and a password. The role mlflow_server writes it into basic_auth.ini.",
    call=(0, ()),
)
CREATE_APPLICATION: Name[Callable[[], Any]] = Name(
    f"{AUTH}:create_app",
    "Makes the application with users. `mlflow server --app-name basic-auth` names it to uvicorn.",
    call=(0, ()),
)
FLASK_APPLICATION: Name[Any] = Name(
    "mlflow.server:app", "Flask's application, before each request of which the guard looks."
)
CATCH: Name[Callable[[Callable[[], Any]], Callable[[], Any]]] = Name(
    "mlflow.server.handlers:catch_mlflow_exception",
    "Has a function of Flask answer with MLflow's errors: those of the data that the guard reads.",
    call=(1, ()),
)
ASSISTANT_ROUTES: Name[Any] = Name(
    "mlflow.server.assistant.api:assistant_router",
    "The routes of MLflow's Assistant, which runs commands: the guard leaves them out.",
    since="3",
    read_by=("mlflow.server.fastapi_app",),
)

# Who asks.
AUTHENTICATE_USER: Name[Callable[..., bool]] = Name(
    f"{AUTH}:store.authenticate_user",
    "Tells whether a name and a password are right, by a hash. The guard has seen to that before.",
    call=(2, ()),
)
AUTHENTICATE_CACHED: Name[Callable[[str, str], Any]] = Name(
    f"{AUTH}:_authenticate_cached",
    "Returns the user of a name and a password, or None: what was right a moment ago is believed.",
    since="3",
    call=(2, ()),
)
GATEWAY_HEADER: Name[str] = Name(
    "mlflow.gateway.constants:MLFLOW_GATEWAY_AUTH_HEADER",
    "The header that may have the login where the AI gateway is asked.",
    since="3",
    value="X-MLflow-Authorization",
)
GATEWAY_TOKEN: Name[Any] = Name(
    "mlflow.environment_variables:_MLFLOW_INTERNAL_GATEWAY_AUTH_TOKEN",
    "The variable with the password by which MLflow's own jobs ask it.",
    since="3",
    attributes=("get",),
)
GET_USER: Name[Callable[[str], Any]] = Name(
    f"{AUTH}:store.get_user", "Returns a user of basic-auth by her name.", call=(1, ())
)
USER: Name[Any] = Name(f"{AUTH}.entities:User", "What get_user returns.", attributes=("is_admin",))
AUTHENTICATED_USER: Name[str] = Name(
    AUTH,
    "The attribute of Flask's `g` that has the name of who has logged in.",
    since="3",
    value="mlflow_authenticated_user",
    written="g.mlflow_authenticated_user = ",
)
EXPERIMENT_PERMISSION: Name[Callable[[str, str], Any]] = Name(
    f"{AUTH}:_get_experiment_permission",
    "Returns what a user may do with an experiment; the arguments are its number and her name.",
    since="3",
    call=(2, ()),
)
PERMISSION: Name[Any] = Name(
    f"{AUTH}.permissions:Permission",
    "What that returns.",
    attributes=("can_read", "can_update", "can_manage"),
)
MAY_READ_MODEL: Name[Callable[[str, str], bool]] = Name(
    f"{AUTH}:_graphql_can_read_model",
    "Tells whether a user may read a registered model; the arguments are its name and hers.",
    since="3",
    call=(2, ()),
)

# Who may reach which artifacts. The guard puts its own judgement around what decides of a path.
PROXY_VALIDATORS: dict[str, Name[Callable[[], bool]]] = {
    action: Name(
        f"{AUTH}:validate_can_{verb}_experiment_artifact_proxy",
        f"Tells whether the present request of Flask's may {verb} artifacts.",
        call=(0, ()),
        read_by=(AUTH,),
    )
    for verb, action in {"read": "read", "update": "update", "delete": "manage"}.items()
}
PROXY_VALIDATOR_OF_FASTAPI: Name[Callable[[str, str], Callable[[str, Any], Awaitable[bool]]]] = (
    Name(
        f"{AUTH}:_get_fastapi_proxy_artifact_validator",
        "Returns what decides of a path and a method (GET, PUT), for a user and a request.",
        since="3",
        call=(2, ()),
        read_by=(AUTH,),
    )
)
PROXY_CHILD: Name[Callable[[str, str], Any]] = Name(
    f"{AUTH}:_artifact_proxy_child",
    "Returns what of an experiment a path leads to: the arguments are path and action.",
    since="3.17",
    call=(2, ()),
)
PROXY_RESOLVED: Name[Callable[[Any, str, str, Callable[[], Any]], bool]] = Name(
    f"{AUTH}:_authorize_artifact_proxy_resolved",
    "Decides of that: what it is, the user, the action, what returns her permission.",
    since="3.17",
    call=(4, ()),
)
SAFE_PATH: Name[Callable[[str], str]] = Name(
    "mlflow.utils.uri:validate_path_is_safe",
    "Reads a path of an artifact route as the handlers do: it decodes to the end.",
    call=(1, ()),
)

# What a request says.
REQUEST_MESSAGE: Name[Callable[[Any], Any]] = Name(
    "mlflow.server.handlers:_get_request_message",
    "Reads the present request into a message of protobuf's, of which it is given an empty one.",
    call=(1, ()),
)
REQUEST_JSON: Name[Callable[[], Any]] = Name(
    "mlflow.server.handlers:_get_normalized_request_json",
    "Reads the present request's JSON as the handlers do.",
    since="3",
    call=(0, ()),
)
CREATE_EXPERIMENT: Name[Callable[[], Any]] = Name(
    "mlflow.protos.service_pb2:CreateExperiment",
    "What a request for a new experiment says.",
    call=(0, ()),
    attributes=("artifact_location",),
)
CREATE_MODEL_VERSION: Name[Callable[[], Any]] = Name(
    "mlflow.protos.model_registry_pb2:CreateModelVersion",
    "What a request for a new version of a registered model says.",
    call=(0, ()),
    attributes=("source", "run_id", "tags"),
)
MODEL_ID: Name[int] = Name(
    "mlflow.protos.model_registry_pb2:CreateModelVersion.MODEL_ID_FIELD_NUMBER",
    "... and its `model_id`, of a logged model.",
    since="3",
)
LIST_ARTIFACTS: Name[Callable[[], Any]] = Name(
    "mlflow.protos.mlflow_artifacts_pb2:ListArtifacts",
    "What a request to list artifacts says.",
    call=(0, ()),
    attributes=("path",),
)
PROMPT_TAG: Name[str] = Name(
    "mlflow.prompt.constants:IS_PROMPT_TAG_KEY",
    "The tag of a version that is a prompt, and has no files.",
    value="mlflow.prompt.is_prompt",
)

# What the tracking store has.
TRACKING_STORE: Name[Callable[[], Any]] = Name(
    "mlflow.server.handlers:_get_tracking_store",
    "Returns the server's tracking store.",
    call=(0, ()),
)
SESSION_MAKER: Name[Any] = Name(
    "mlflow.store.tracking.sqlalchemy_store:SqlAlchemyStore.ManagedSessionMaker",
    "Gives a session of SQLAlchemy's, in a `with`.",
    call=(0, ()),
)
GET_RUN: Name[Any] = Name(
    "mlflow.store.tracking.sqlalchemy_store:SqlAlchemyStore.get_run",
    "Returns a run by its id.",
    call=(1, ()),
)
GET_LOGGED_MODEL: Name[Any] = Name(
    "mlflow.store.tracking.sqlalchemy_store:SqlAlchemyStore.get_logged_model",
    "Returns a logged model by its id.",
    since="3",
    call=(1, ()),
)
SQL_EXPERIMENT: Name[Any] = Name(
    "mlflow.store.tracking.dbmodels.models:SqlExperiment",
    "The table of experiments.",
    attributes=("experiment_id", "artifact_location", "creation_time"),
)

# What the model registry has.
REGISTRY_STORE: Name[Callable[[], Any]] = Name(
    "mlflow.server.handlers:_get_model_registry_store",
    "Returns the server's model registry.",
    call=(0, ()),
)
REGISTRY: Name[Any] = Name(
    "mlflow.store.model_registry.sqlalchemy_store:SqlAlchemyStore",
    "What that is.",
    call=(1, ()),
)
REGISTRY_SESSION_MAKER: Name[Any] = Name(
    "mlflow.store.model_registry.sqlalchemy_store:SqlAlchemyStore.ManagedSessionMaker",
    "Gives a session of SQLAlchemy's, in a `with`.",
    call=(0, ()),
)
SQL_REGISTERED_MODEL: Name[Any] = Name(
    "mlflow.store.model_registry.dbmodels.models:SqlRegisteredModel",
    "The table of registered models. A model that is renamed keeps when it was made.",
    attributes=("name", "creation_time"),
)

# Where the data of traces are.
_TRACES = {"mlflow.server.handlers": "", "mlflow.store.tracking.sqlalchemy_store": UNKNOWN}
TRACE_ADDRESSES: tuple[Name[Callable[[Any], str]], ...] = tuple(
    Name(
        f"{module}:get_artifact_uri_for_trace",
        "Returns where a trace's data are, by its tag. The guard confines it.",
        since=since,
        call=(1, ()),
        read_by=(module,),
    )
    for module, since in _TRACES.items()
)
ARCHIVE_ADDRESSES: tuple[Name[Callable[[Any], str]], ...] = tuple(
    Name(
        f"{module}:get_archive_uri_for_trace",
        "Returns where a trace was archived, by its tag. The guard confines it.",
        since="3",
        call=(1, ()),
        read_by=(module,),
    )
    for module in _TRACES
)
VALIDATE_TRACE_TAG: Name[Callable[[Any, Any], Any]] = Name(
    "mlflow.store.tracking.sqlalchemy_store:_validate_trace_tag",
    "Checks a tag of a trace. The guard has it refuse those that say where data are.",
    call=(2, ()),
    read_by=("mlflow.store.tracking.sqlalchemy_store",),
)
TRACE_LOCATION_TAG: Name[str] = Name(
    "mlflow.utils.mlflow_tags:MLFLOW_ARTIFACT_LOCATION",
    "The tag by which MLflow finds a trace's data.",
    value="mlflow.artifactLocation",
)
TRACE_ARCHIVE_TAG: Name[str] = Name(
    "mlflow.utils.mlflow_tags:MLFLOW_TRACE_ARCHIVE_LOCATION",
    "The tag by which MLflow finds an archived trace.",
    since="3",
    value="mlflow.trace.archiveLocation",
)

# S3: server/guard.py and server/reset.py ----------------------------------------------------------

_S3 = "mlflow.store.artifact.s3_artifact_repo"
S3_REPOSITORY: Name[Callable[[str], Any]] = Name(
    f"{_S3}:S3ArtifactRepository", "Artifacts below an address in a bucket.", call=(1, ())
)
S3_CLIENT: Name[Any] = Name(
    f"{_S3}:S3ArtifactRepository._get_s3_client",
    "Returns boto3's client, with all that MLflow's settings say of endpoint and signature.",
    call=(0, ()),
)
S3_PARSED: Name[Any] = Name(
    f"{_S3}:S3ArtifactRepository.parse_s3_compliant_uri",
    "Returns bucket and key of an address.",
    call=(1, ()),
)
S3_OWNER: Name[Any] = Name(
    f"{_S3}:S3ArtifactRepository._bucket_owner_params",
    "The arguments by which S3 sees to it that the bucket is the expected owner's.",
    since="3",
)
S3_DELETE: Name[Callable[..., None]] = Name(
    f"{_S3}:S3ArtifactRepository.delete_artifacts",
    "Deletes what is at a path. The guard replaces it where it deletes its neighbours as well.",
    call=(1, ()),
)
S3_WITHIN: Name[Any] = Name(
    f"{_S3}:_is_object_key_within_path",
    "Tells what lies below a path: MLflow that has it deletes no neighbours.",
    since="3.17",
)


def application(name: str) -> tuple[Any, bool]:
    """Return MLflow's application, and whether people log into it.

    Args:
        name: what MLflow would have uvicorn run: a module, a colon, a name.
    """
    module, _, attribute = name.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    return (found(), True) if module == AUTH else (found, False)


def session() -> Any:
    """Return a session on the server's tracking store, for a `with`."""
    return TRACKING_STORE.get()().ManagedSessionMaker()


def registry_session() -> Any:
    """Return a session on the server's model registry, for a `with`."""
    return REGISTRY_STORE.get()().ManagedSessionMaker()


def run(run_id: str) -> tuple[str, str]:
    """Return a run's experiment and address. Raises MlflowException."""
    info = TRACKING_STORE.get()().get_run(run_id).info
    return str(info.experiment_id), str(info.artifact_uri)


def logged_model(model_id: str) -> tuple[str, str]:
    """Return a logged model's experiment and address. Raises MlflowException."""
    found = TRACKING_STORE.get()().get_logged_model(model_id)
    return str(found.experiment_id), str(found.artifact_location)


def request(message: Name[Callable[[], Any]]) -> Any:
    """Return what the present request says, as the message of protobuf's of that name."""
    return REQUEST_MESSAGE.get()(message.get()())


def may(user: str, action: str, experiment_id: str) -> bool:
    """Tell whether a user may do something with an experiment: read, update or manage."""
    return bool(getattr(EXPERIMENT_PERMISSION.get()(experiment_id, user), f"can_{action}"))


def may_reach(user: str, action: str, experiment_id: str, inner: str) -> bool:
    """Ask MLflow of a path as if it lay where MLflow would have put the experiment."""
    if not PROXY_RESOLVED.there():  # before 3.17
        return may(user, action, experiment_id)
    child = PROXY_CHILD.get()(f"{experiment_id}/{inner}", action)
    return bool(
        PROXY_RESOLVED.get()(
            child, user, action, lambda: EXPERIMENT_PERMISSION.get()(experiment_id, user)
        )
    )


def s3_client(repository: Any) -> Any:
    """Return boto3's client as MLflow sets it up."""
    return repository._get_s3_client()


def s3_place(repository: Any, address: str) -> tuple[str, str]:
    """Return bucket and key of an address."""
    bucket, key = repository.parse_s3_compliant_uri(address)
    return bucket, key


def s3_owner(repository: Any) -> dict[str, str]:
    """Return the arguments that name the bucket's owner; from MLflow 3 on."""
    owner: dict[str, str] = repository._bucket_owner_params
    return owner


# Databases: database/ ----------------------------------------------------------------------------

SCHEMAS = {
    "tracking": Schema(
        "store/db_migrations/versions",
        (Statement("SELECT version_num FROM alembic_version", table="alembic_version"),),
    ),
    "auth": Schema(
        "server/auth/db/migrations/versions",
        (
            Statement(
                "SELECT version_num FROM alembic_version_auth",
                table="alembic_version_auth", schema="auth", since="3.6",
            ),
            Statement(
                "SELECT version_num FROM alembic_version",
                table="alembic_version", schema="auth", until="3.6",
            ),
        ),
    ),
}  # fmt: skip
# All of these tables, as a pattern of Python's.
REVISION_TABLES = r"alembic_version\w*"

ENGINE: Name[Callable[[str], Any]] = Name(
    "mlflow.store.db.utils:create_sqlalchemy_engine_with_retry",
    "Makes an engine of SQLAlchemy's, with MLflow's settings of its pool.",
    call=(1, ()),
)
INITIALIZE: Name[Callable[[Any], None]] = Name(
    "mlflow.store.db.utils:_initialize_tables",
    "Brings the tracking schema into an empty database: what `mlflow db upgrade` does with one in "
    "MLflow 3; in 2 it cannot.",
    call=(1, ()),
)
UPGRADE: Name[Callable[[Any], None]] = Name(
    "mlflow.store.db.utils:_upgrade_db", "Brings a tracking schema to the newest.", call=(1, ())
)
UPGRADE_AUTH: Name[Callable[..., None]] = Name(
    "mlflow.server.auth.db.cli:upgrade.callback",
    "Brings the schema of users to a revision, or into an empty database.",
    call=(0, ("url", "revision")),
)


def create_schema(kind: str, uri: str) -> None:
    """Bring MLflow's schema into an empty database."""
    if kind == "tracking":
        engine = ENGINE.get()(uri)
        INITIALIZE.get()(engine)
        engine.dispose()
    else:
        UPGRADE_AUTH.get()(url=uri, revision="head")


def upgrade_schema(kind: str, uri: str) -> None:
    """Bring a database's schema to what this MLflow needs."""
    if kind == "tracking":
        engine = ENGINE.get()(uri)
        UPGRADE.get()(engine)
        engine.dispose()
    else:
        UPGRADE_AUTH.get()(url=uri, revision="head")


def _counts(schema: str, *tables: str, **newer: str) -> dict[str, Statement]:
    """Return how to count the rows of tables; the newer ones with the version that brought them."""
    since = {**dict.fromkeys(tables, ""), **newer}
    return {
        table: Statement(
            f"SELECT count(*) FROM {table}",  # noqa: S608 no input
            table=table, schema=schema, since=version,
        )
        for table, version in since.items()
    }  # fmt: skip


# What a copy's manifest counts, and a question names: the tables that people would miss.
COUNTED = {
    "tracking": _counts(
        "tracking", "experiments", "runs", "params", "metrics", "tags", "registered_models",
        "model_versions", "trace_info", logged_models="3",
        **dict.fromkeys(
            ("evaluation_datasets", "scorers", "label_schemas", "review_queues", "issues",
             "endpoints", "model_definitions", "secrets", "guardrails", "budget_policies",
             "mcp_servers", "webhooks"), "3",
        ),
    ),
    "auth": _counts("auth", "users"),
}  # fmt: skip
# What MLflow makes by itself in an empty database: an experiment, and the administrator.
OF_ITSELF = {"experiments": 1, "users": 1}


def of_people(counts: dict[str, int]) -> dict[str, int]:
    """Return of a database's counts what people made; nothing where it is empty."""
    rest = {name: count - OF_ITSELF.get(name, 0) for name, count in counts.items()}
    return {name: count for name, count in rest.items() if count > 0}


# By which one knows a database again.
NEWEST_RUNS = Statement("SELECT run_uuid FROM runs ORDER BY start_time DESC LIMIT 20", table="runs")
HAS_RUN = Statement("SELECT 1 FROM runs WHERE run_uuid = ?", table="runs")


def _with_files(tags: str) -> Statement:
    """Return how to ask for the newest runs with artifacts, which only some tags tell."""
    return Statement(
        "SELECT r.run_uuid, r.artifact_uri FROM runs r WHERE r.lifecycle_stage = 'active'"  # noqa: S608
        f" AND EXISTS (SELECT 1 FROM tags t WHERE t.run_uuid = r.run_uuid AND t.key IN ({tags}))"
        " ORDER BY r.start_time DESC LIMIT 10",
        table="tags",
    )


# The newest things that have files: name and address. MLflow 3 keeps a run's models apart from it.
HAVING_FILES = {
    True: (
        Statement(
            # Whoever deletes an experiment deletes its models' files; the rows say nothing of it.
            "SELECT m.model_id, m.artifact_location FROM logged_models m"
            " JOIN experiments e ON e.experiment_id = m.experiment_id"
            " WHERE e.lifecycle_stage = 'active' AND m.lifecycle_stage = 'active' AND m.status = 2"
            " ORDER BY m.creation_timestamp_ms DESC LIMIT 10",
            table="logged_models", since="3",
        ),
        _with_files("'mlflow.loggedArtifacts', 'mlflow.loggedImages'"),
    ),
    False: (_with_files("'mlflow.loggedArtifacts', 'mlflow.log-model.history'"),),
}  # fmt: skip

LOCATIONS = Statement(
    "SELECT experiment_id, name, artifact_location FROM experiments ORDER BY 1",
    table="experiments",
)
# MLflow keeps the rows of deleted versions, without their source.
SOURCES = Statement(
    "SELECT v.name || ' ' || v.version, v.source, r.experiment_id"
    " FROM model_versions v LEFT JOIN runs r ON r.run_uuid = v.run_id"
    " WHERE coalesce(v.current_stage, '') <> 'Deleted_Internal' ORDER BY v.name, v.version",
    table="model_versions",
)

# Secrets: server/reconcile.py ---------------------------------------------------------------------

KEK: Name[Callable[[str, int], Any]] = Name(
    "mlflow.utils.crypto:KEKManager",
    "A passphrase and its number, with the key that is made from them.",
    since="3",
    call=(2, ()),
    attributes=("kek_version", "get_kek"),
)
REWRAP: Name[Callable[[bytes, bytes, Any, Any], Any]] = Name(
    "mlflow.utils.crypto:rotate_secret_encryption",
    "Wraps a credential's key anew: the credential, its wrapped key, the old and the new KEK.",
    since="3",
    call=(4, ()),
)
REWRAPPED: Name[Any] = Name(
    "mlflow.utils.crypto:RotatedSecret",
    "What that returns.",
    since="3",
    attributes=("wrapped_dek",),
)
UNWRAP: Name[Callable[[bytes, bytes], bytes]] = Name(
    "mlflow.utils.crypto:unwrap_dek",
    "Opens a credential's wrapped key, or raises an error.",
    since="3",
    call=(2, ()),
)

_SECRETS: dict[str, str] = {"table": "secrets", "since": "3"}
SECRETS_OF = Statement(
    "SELECT secret_id, encrypted_value, wrapped_dek FROM secrets WHERE kek_version = ?", **_SECRETS
)
SECRET_REWRAPPED = Statement(
    "UPDATE secrets SET wrapped_dek = ?, kek_version = ? WHERE secret_id = ?", **_SECRETS
)
WRAPPED_KEYS = Statement("SELECT wrapped_dek FROM secrets", **_SECRETS)

_WEBHOOKS: dict[str, str] = {"table": "webhooks", "since": "3"}
WEBHOOKS = Statement(
    "SELECT webhook_id, secret FROM webhooks WHERE secret IS NOT NULL", **_WEBHOOKS
)
WEBHOOK_CHANGED = Statement("UPDATE webhooks SET secret = ? WHERE webhook_id = ?", **_WEBHOOKS)

_USERS: dict[str, str] = {"table": "users", "schema": "auth"}
USER_FOUND = Statement("SELECT password_hash, is_admin FROM users WHERE username = ?", **_USERS)
USER_CHANGED = Statement(
    "UPDATE users SET password_hash = ?, is_admin = ? WHERE username = ?", **_USERS
)
# She may be there: another server that starts just now has made her.
USER_MADE = Statement(
    "INSERT INTO users (password_hash, is_admin, username) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
    **_USERS,
)

# What was logged: server/reset.py -----------------------------------------------------------------

# What a reset deletes, but for what belongs to a run: what people call it. Default is MLflow's own.
_CALLED = {
    "trace_info": "traces", "endpoints": "gateway endpoints", "secrets": "gateway keys",
    "model_definitions": "gateway models",
}  # fmt: skip
LOGGED = {
    "experiments": Statement(
        "SELECT count(*) FROM experiments WHERE experiment_id <> 0", table="experiments"
    ),
    **{
        _CALLED.get(name, name.replace("_", " ")): query
        for name, query in COUNTED["tracking"].items()
        if name not in ("experiments", "params", "metrics", "tags")
    },
}
GRANTS_FORGOTTEN = Statement(
    "DELETE FROM role_permissions WHERE resource_pattern <> '*' AND resource_type <> 'workspace'",
    table="role_permissions", schema="auth", since="3",
)  # fmt: skip
# MLflow 2 has a table for the grants on each kind of thing; newer ones keep it, and do not read it.
OLDER_GRANTS = "_permissions"
OLDER_GRANTS_FORGOTTEN = tuple(
    Statement(
        f'DELETE FROM "{kind}{OLDER_GRANTS}"',  # noqa: S608 no input
        table=f"{kind}{OLDER_GRANTS}", schema="auth",
    )
    for kind in ("experiment", "registered_model")
)  # fmt: skip


def forgetting(table: str) -> str:
    """Return how to take the grants on single things from a table; empty where it has none."""
    if table == GRANTS_FORGOTTEN.table:
        return GRANTS_FORGOTTEN
    return f'DELETE FROM "{table}"' if table.endswith(OLDER_GRANTS) else ""  # noqa: S608


# What was deleted: gc.py --------------------------------------------------------------------------

_STORE = "mlflow.store.tracking.sqlalchemy_store:SqlAlchemyStore"
STORE: Name[Callable[[str, str], Any]] = Name(
    _STORE,
    "The tracking store of a database and an artifact root.",
    call=(2, ()),
    attributes=("engine",),
)
HARD_DELETE = {
    "run": Name[Any](f"{_STORE}._hard_delete_run", "Removes a run's rows for good.", call=(1, ())),
    "model": Name[Any](
        f"{_STORE}._hard_delete_logged_model", "... a logged model's.", since="3", call=(1, ())
    ),
    "experiment": Name[Any](
        f"{_STORE}._hard_delete_experiment", "... an experiment's.", call=(1, ())
    ),
}
_LIMITS = "mlflow.utils.validation"
LONGEST_PARAM: Name[int] = Name(f"{_LIMITS}:MAX_PARAM_VAL_LENGTH", "Characters of a parameter.")
LONGEST_TAG: Name[int] = Name(f"{_LIMITS}:MAX_TAG_VAL_LENGTH", "Characters of a run's tag.")
LONGEST_KEY: Name[int] = Name(f"{_LIMITS}:MAX_ENTITY_KEY_LENGTH", "Characters of a name of these.")
LONGEST_EXPERIMENT_TAG: Name[int] = Name(
    f"{_LIMITS}:MAX_EXPERIMENT_TAG_VAL_LENGTH", "Characters of an experiment's tag."
)
CHECK_NAME: Name[Callable[[str], None]] = Name(
    f"{_LIMITS}:_validate_metric_name",
    "Raises MlflowException for a name that no metric, parameter or tag may have.",
    call=(1, ()),
)
ARTIFACT_REPOSITORY: Name[Callable[[str], Any]] = Name(
    "mlflow.store.artifact.artifact_repository_registry:get_artifact_repository",
    "Returns what reads, writes and deletes artifacts at an address.",
    call=(1, ()),
)
ARTIFACTS: Name[Any] = Name(
    "mlflow.store.artifact.artifact_repo:ArtifactRepository",
    "What that returns.",
    attributes=("delete_artifacts", "list_artifacts", "log_artifact"),
)


def hard_delete(store: Any, kind: str, name: str) -> None:
    """Remove the rows of a run, a logged model or an experiment for good, by its id."""
    getattr(store, HARD_DELETE[kind].where.rpartition(".")[2])(name)


# Deleted experiments, with nothing in them that lives or was deleted later.
_OLD_EXPERIMENTS = """
SELECT e.experiment_id FROM experiments e
 WHERE e.lifecycle_stage = 'deleted' AND e.last_update_time <= :before AND NOT EXISTS (
   SELECT 1 FROM runs r WHERE r.experiment_id = e.experiment_id
      AND NOT (r.lifecycle_stage = 'deleted' AND coalesce(r.deleted_time <= :before, false)))
"""


class Old(NamedTuple):
    """How to ask for what was deleted long enough ago.

    Attributes:
        all: for each: id, name, place of the files, time of deletion, experiment; so many that come
            after an id.
        one: the same of one, by its id.
    """

    all: Statement
    one: Statement


def _old(query: str, key: str, table: str, since: str = "") -> Old:
    return Old(
        Statement(
            f"{query} AND {key} > :after ORDER BY {key} LIMIT :some", table=table, since=since
        ),
        Statement(f"{query} AND {key} = :id", table=table, since=since),
    )


# By kind, in the order of removal. Default and the newest experiment stay as empty rows: MLflow
# needs the first, and SQLite would give the number of the second, with what users were granted
# there, to the next one.
OLD = {
    "run": _old(
        """
SELECT run_uuid, name, artifact_uri, deleted_time, experiment_id FROM runs
 WHERE lifecycle_stage = 'deleted' AND deleted_time <= :before
""",
        "run_uuid",
        "runs",
    ),
    "model": _old(
        f"""
SELECT model_id, name, artifact_location, last_updated_timestamp_ms, experiment_id
  FROM logged_models
 WHERE ((lifecycle_stage = 'deleted' AND last_updated_timestamp_ms <= :before)
        OR experiment_id IN ({_OLD_EXPERIMENTS}))
""",  # noqa: S608 no input
        "model_id",
        "logged_models",
        since="3",
    ),
    "experiment": _old(
        f"""
SELECT experiment_id, name, artifact_location, last_update_time, experiment_id FROM experiments
 WHERE experiment_id IN ({_OLD_EXPERIMENTS})
   AND experiment_id NOT IN (0, (SELECT max(experiment_id) FROM experiments))
""",  # noqa: S608 no input
        "experiment_id",
        "experiments",
    ),
}
LINKS_REMOVED = Statement(
    "DELETE FROM inputs WHERE source_id = :id OR destination_id = :id", table="inputs"
)
VERSIONS_FROM = Statement(
    """
SELECT name, version, coalesce(run_id, ''), coalesce(source, ''), coalesce(storage_location, '')
  FROM model_versions WHERE coalesce(current_stage, '') <> 'Deleted_Internal'
""",
    table="model_versions",
)
# Another one when any of them is registered, changed or deleted.
VERSIONS_MARK = Statement(
    "SELECT count(*), max(last_updated_time) FROM model_versions", table="model_versions"
)

# What a smoke has made: forget.py -----------------------------------------------------------------

_TAGGED = "SELECT 1 FROM tags t WHERE t.run_uuid = r.run_uuid AND t.key = :tag AND t.value = :token"
# By kind, as gc.py takes it; of the experiment, when it was made.
SMOKED = {
    "experiment": Statement(
        "SELECT e.experiment_id, e.name, e.artifact_location, e.creation_time, e.experiment_id"
        " FROM experiments e JOIN experiment_tags t ON t.experiment_id = e.experiment_id"
        " WHERE e.lifecycle_stage = 'deleted' AND e.name = :name"
        " AND t.key = :tag AND t.value = :token",
        table="experiment_tags",
    ),
    "run": Statement(
        "SELECT run_uuid, name, artifact_uri, deleted_time, experiment_id FROM runs"
        " WHERE experiment_id = :id",
        table="runs",
    ),
    "model": Statement(
        "SELECT model_id, name, artifact_location, last_updated_timestamp_ms, experiment_id"
        " FROM logged_models WHERE experiment_id = :id",
        table="logged_models", since="3",
    ),
}  # fmt: skip
# What others may have put into its experiment meanwhile.
NOT_SMOKED = (
    Statement(
        f"SELECT 1 FROM runs r WHERE experiment_id = :id AND NOT EXISTS ({_TAGGED})",  # noqa: S608
        table="runs",
    ),
    Statement(
        "SELECT 1 FROM logged_models m WHERE experiment_id = :id AND NOT EXISTS"
        " (SELECT 1 FROM runs r WHERE r.experiment_id = :id AND r.run_uuid = m.source_run_id)",
        table="logged_models", since="3",
    ),
    Statement("SELECT 1 FROM trace_info WHERE experiment_id = :id", table="trace_info"),
)  # fmt: skip
OF_ANYBODY = tuple(LOGGED[name] for name in ("experiments", "runs", "registered models"))
# PostgreSQL's; SQLite numbers by what there is.
LOCK_EXPERIMENTS = "LOCK TABLE experiments IN EXCLUSIVE MODE"
NUMBER_ONE = "SELECT setval(pg_get_serial_sequence('experiments', 'experiment_id'), 1, false)"

# Where a project's store has its artifacts: local_store.py ---------------------------------------


def _addresses(
    table: str, column: str, since: str = "", only: str = ""
) -> tuple[Statement, Statement]:
    """Return how to ask for a column's addresses that only a server resolves, and change one."""
    return (
        Statement(
            f"SELECT DISTINCT {column} FROM {table}"  # noqa: S608 no input
            f" WHERE {column} LIKE 'mlflow-artifacts:/%'{only}",
            table=table, since=since,
        ),
        Statement(
            f"UPDATE {table} SET {column} = ? WHERE {column} = ?{only}",  # noqa: S608
            table=table, since=since,
        ),
    )  # fmt: skip


EXPERIMENTS_PROXIED = Statement(
    "SELECT experiment_id, name FROM experiments"
    " WHERE artifact_location LIKE 'mlflow-artifacts:/%' ORDER BY 1",
    table="experiments",
)
ADDRESSES = (
    _addresses("experiments", "artifact_location"),
    _addresses("runs", "artifact_uri"),
    _addresses("logged_models", "artifact_location", since="3"),
    _addresses("trace_tags", "value", only=f" AND key = '{TRACE_LOCATION_TAG.value}'"),
    _addresses("model_versions", "source"),
    _addresses("model_versions", "storage_location"),
)

# Models: models/app.py ----------------------------------------------------------------------------

_SCORING = "mlflow.pyfunc.scoring_server"
LOAD_MODEL: Name[Callable[[str], Any]] = Name(
    f"{_SCORING}:load_model_with_mlflow_config",
    "Loads a model as `mlflow models serve` does.",
    call=(1, ()),
)
PICKLES: Name[Any] = Name(
    "mlflow.environment_variables:MLFLOW_ALLOW_PICKLE_DESERIALIZATION",
    "Whether models that are pickles are loaded; who is refused one is told this name.",
    since="3",
    attributes=("get", "name", "set"),
)
INVOCATIONS: Name[Callable[[str, str, Any, Any], Any]] = Name(
    f"{_SCORING}:invocations",
    "Answers a request for predictions: its text, the type of that, the model, the input's schema.",
    call=(4, ()),
)
ANSWER: Name[Any] = Name(
    f"{_SCORING}:InvocationsResponse", "What that returns.", attributes=("response", "status")
)
SCORING_APPLICATION: Name[Callable[[Any], Any]] = Name(
    f"{_SCORING}:init", "Makes the web application for a model.", call=(1, ())
)
