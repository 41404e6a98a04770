#!/bin/sh
# `mlflow server --app-name basic-auth` as pip gives it, in the locked versions, beside the service and
# on its PostgreSQL: told nothing but a free port, its database, the two variables that it insists on,
# and not to report to its makers. As a user of its own, so that her processes are it.
# lock.txt lies beside it.
set -eu
home=/var/lib/stock
useradd --system --home-dir $home --create-home --shell /usr/sbin/nologin stock
install --owner=stock lock.txt $home

# What the role has made admits nobody but its own.
runuser --user=postgres -- createuser stock
runuser --user=postgres -- createdb --owner=stock --encoding=UTF8 --template=template0 stock
for file in /etc/postgresql/*/main/pg_hba.conf; do echo 'local stock stock peer' >> "$file"; done
systemctl reload postgresql

runuser --user=stock -- python3 -m venv $home/stock
HOME=$home UV_SYSTEM_CERTS=true runuser --user=stock -- /opt/mlflow/current/bin/uv pip install --quiet --compile-bytecode \
    --python $home/stock/bin/python --constraint $home/lock.txt 'mlflow[auth]' 'psycopg[binary]'
systemd-run --quiet --unit=stock --uid=stock --working-directory=$home --setenv=HOME=$home \
    --setenv=PATH=$home/stock/bin:/usr/bin:/bin --setenv=DO_NOT_TRACK=true \
    --setenv=MLFLOW_AUTH_ADMIN_PASSWORD=of-the-administrator --setenv=MLFLOW_FLASK_SERVER_SECRET_KEY="$(openssl rand -hex 20)" \
    $home/stock/bin/mlflow server --app-name basic-auth --port 5001 \
    --backend-store-uri 'postgresql+psycopg://stock@/stock?host=/var/run/postgresql'
timeout 180 sh -c 'until curl --silent --fail http://localhost:5001/health; do sleep 0.5; done'
