"""Print as JSON which of the application's routes the guard's table lacks, and what it has besides.

For the environment's Python, with the service's programs on PYTHONPATH, in an empty directory. The
application has users, so that every route is there.
"""

import json
import os
from pathlib import Path

here = Path.cwd()
Path("auth.ini").write_text(
    "[mlflow]\ndefault_permission=READ\nadmin_username=admin\nadmin_password=a-long-password\n"
    f"database_uri=sqlite:///{here}/auth.db\n"
    "authorization_function=mlflow.server.auth:authenticate_request_basic_auth\n"
)
tracking = f"sqlite:///{here}/mlflow.db"
os.environ |= {
    "MLFLOW_AUTH_CONFIG_PATH": f"{here}/auth.ini",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "x",
    "MLFLOW_BACKEND_STORE_URI": tracking,
    "_MLFLOW_SERVER_FILE_STORE": tracking,
    "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
    "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(here),
    "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
    "_MLFLOW_SGI_NAME": "uvicorn",
    "MLFLOW_ARTIFACTS_DESTINATION": str(here),
    "MLFLOW_GUARD_APPLICATION": "mlflow.server.auth:create_app",
}

from mlflow_ops.server import guard  # noqa: E402 (MLflow reads the environment when it is imported)

guarded = guard.application()

from mlflow.server import app  # noqa: E402

there = {*guard.native_routes(guarded.application), *guard.flask_routes(app)}
listed = {line[:2]: line.optional for line in guarded.table.routes}
print(
    json.dumps(
        {
            "unknown": sorted(there - set(listed)),
            "gone": sorted(set(listed) - there - {route for route in listed if listed[route]}),
            "routes": len(there),
        }
    )
)
