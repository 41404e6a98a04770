#!/bin/sh
# `mlflow server` as `pip install mlflow` gives it, in the locked versions, beside the service: told
# nothing but a free port, and not to report to its makers. As ada, so that her processes are it.
# lock.txt lies beside it.
set -eu
home=/home/ada
install --owner=ada lock.txt $home
runuser --user=ada -- python3 -m venv $home/stock
HOME=$home UV_SYSTEM_CERTS=true runuser --user=ada -- /opt/mlflow/current/bin/uv pip install --quiet --compile-bytecode \
    --python $home/stock/bin/python --constraint $home/lock.txt mlflow
systemd-run --quiet --unit=stock --uid=ada --working-directory=$home --setenv=HOME=$home \
    --setenv=PATH=$home/stock/bin:/usr/bin:/bin --setenv=DO_NOT_TRACK=true $home/stock/bin/mlflow server --port 5001
timeout 180 sh -c 'until curl --silent --fail http://localhost:5001/health; do sleep 0.5; done'
