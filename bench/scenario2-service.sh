#!/bin/sh
# What a person writes next, as root, who has MLflow in /opt/mlflow/current (scenario1-uv.sh or
# scenario1-pip.sh): a service with SQLite, up, and proved. smoke.pyz lies beside it.
set -eu
mlflow=/opt/mlflow/current/bin/mlflow
state=/var/lib/mlflow

useradd --system --home-dir $state --create-home --shell /usr/sbin/nologin mlflow
runuser --user=mlflow -- $mlflow db upgrade sqlite:///$state/mlflow.db

cat > /etc/systemd/system/mlflow.service <<UNIT
[Unit]
Description=MLflow tracking server
After=network-online.target

[Service]
User=mlflow
WorkingDirectory=$state
Environment=DO_NOT_TRACK=true MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
ExecStart=$mlflow server --workers 2 --backend-store-uri sqlite:///$state/mlflow.db --artifacts-destination $state/artifacts_local
Restart=on-failure

[Install]
WantedBy=multi-user.target
UNIT
systemctl daemon-reload
systemctl enable --now mlflow
until curl --silent --fail http://localhost:5000/health; do sleep 0.2; done

/opt/mlflow/current/bin/python smoke.pyz scenario2 \
    --tracking-uri http://localhost:5000 --database $state/mlflow.db --artifacts $state/artifacts_local
