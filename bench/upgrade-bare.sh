#!/bin/sh
# Stop, migrate, start, and the seconds that it took: what an upgrade is without a backup or a way back.
#   upgrade-bare.sh forward 2.22.5 3.17.2   from one version to another
#   upgrade-bare.sh back    2.22.5          to the first, with what the last upgrade of the playbook saved
set -eu
cd /opt/mlflow
old=$(ls -d "$2"-*)
as_service() { runuser -u mlflow -- env HOME=/nonexistent "$@"; }

if [ "$1" = forward ]; then
    new=$(ls -d "$3"-*)
    . /etc/mlflow/server.env
    began=$(date +%s.%N)
    systemctl stop mlflow
    as_service "$new/bin/mlflow" db upgrade "$MLFLOW_BACKEND_STORE_URI"
    if [ -n "${MLFLOW_AUTH_CONFIG_PATH-}" ]; then
        auth=$(sed -n 's/^database_uri = //p' "$MLFLOW_AUTH_CONFIG_PATH" | sed 's/%%/%/g')
        as_service "$new/bin/python" -m mlflow.server.auth db upgrade --url "$auth"
    fi
    ln -sfn "$new" current
    systemctl start mlflow
    echo "$(date +%s.%N) - $began" | python3 -c 'print(eval(input()))'
else
    saved=$(ls -d /var/lib/mlflow-switch/*-"$2"/databases | tail -1)
    systemctl stop mlflow
    as_service "$old/bin/python" -Es /usr/local/lib/mlflow/current database load "$saved"
    ln -sfn "$old" current
    systemctl start mlflow
fi
