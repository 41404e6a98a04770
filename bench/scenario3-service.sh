#!/bin/sh
# What a person writes next, as root, who has MLflow in /opt/mlflow/current (scenario1-uv.sh): a
# server with PostgreSQL, an S3 store, TLS and two users, up and proved. smoke.pyz and seaweedfs.txt
# lie beside it.
set -eu
export DEBIAN_FRONTEND=noninteractive UV_SYSTEM_CERTS=true
bin=/opt/mlflow/current/bin
name=$(hostname --fqdn)
tls=/etc/ssl/mlflow
database='postgresql+psycopg://mlflow@/%s?host=/var/run/postgresql'
secret() { openssl rand -hex 20; }

apt-get update --quiet=2
apt-get install --quiet=2 --yes --no-install-recommends postgresql nginx openssl > /dev/null
$bin/uv pip install --quiet --target /opt/seaweedfs --require-hashes --requirement seaweedfs.txt
useradd --system --home-dir /var/lib/mlflow --create-home --shell /usr/sbin/nologin mlflow
useradd --system --home-dir /var/lib/seaweedfs --create-home --shell /usr/sbin/nologin seaweedfs

# The database: Debian admits a user of the host to what is hers.
runuser --user=postgres -- createuser mlflow
for each in mlflow mlflow_auth; do
    runuser --user=postgres -- createdb --owner=mlflow --encoding=UTF8 --template=template0 $each
done

# The store, and a key that is good for its one bucket.
access=$(secret) password=$(secret)
install --directory --group=seaweedfs --mode=0750 /etc/seaweedfs
install --group=seaweedfs --mode=0640 /dev/null /etc/seaweedfs/s3.json
cat > /etc/seaweedfs/s3.json <<JSON
{"identities": [{
  "name": "mlflow", "credentials": [{"accessKey": "$access", "secretKey": "$password"}],
  "actions": ["Read:mlflow", "Write:mlflow", "List:mlflow", "Tagging:mlflow"]
}]}
JSON
cat > /etc/systemd/system/seaweedfs.service <<'UNIT'
[Unit]
Description=SeaweedFS
After=network-online.target

[Service]
User=seaweedfs
WorkingDirectory=/var/lib/seaweedfs
Environment=GOMEMLIMIT=400MiB
ExecStart=/opt/seaweedfs/bin/weed -logtostderr=true server -dir=/var/lib/seaweedfs \
    -ip=127.0.0.1 -ip.bind=127.0.0.1 -disableHttp -master.telemetry=false -master.electionTimeout=1s \
    -master.volumeSizeLimitMB=1024 -volume.max=0 -volume.preStopSeconds=0 -filer -filer.disableHttp \
    -s3 -s3.config=/etc/seaweedfs/s3.json -s3.port.iceberg=0 -s3.port.lance=0
Restart=on-failure

[Install]
WantedBy=multi-user.target
UNIT
systemctl daemon-reload
systemctl enable --quiet --now seaweedfs

# The server.
install --directory --group=mlflow --mode=0750 /etc/mlflow
install --mode=0600 /dev/null /etc/mlflow/server.env
install --group=mlflow --mode=0640 /dev/null /etc/mlflow/basic_auth.ini
admin=$(secret)
cat > /etc/mlflow/basic_auth.ini <<INI
[mlflow]
default_permission = READ
database_uri = $(printf "$database" mlflow_auth)
admin_username = admin
admin_password = $admin
auth_cache_ttl_seconds = 60
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
INI
cat > /etc/mlflow/server.env <<ENV
MLFLOW_BACKEND_STORE_URI=$(printf "$database" mlflow)
MLFLOW_ARTIFACTS_DESTINATION=s3://mlflow/artifacts
MLFLOW_S3_ENDPOINT_URL=http://127.0.0.1:8333
MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE=path
AWS_DEFAULT_REGION=us-east-1
AWS_ACCESS_KEY_ID=$access
AWS_SECRET_ACCESS_KEY=$password
MLFLOW_AUTH_CONFIG_PATH=/etc/mlflow/basic_auth.ini
MLFLOW_AUTH_ADMIN_PASSWORD=$admin
MLFLOW_FLASK_SERVER_SECRET_KEY=$(secret)
MLFLOW_CRYPTO_KEK_PASSPHRASE=$(secret)
MLFLOW_SERVER_ALLOWED_HOSTS=$name,localhost:5000,127.0.0.1:5000
MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
MLFLOW_DISABLE_TELEMETRY=true
DO_NOT_TRACK=true
ENV
runuser --user=mlflow -- $bin/mlflow db upgrade "$(printf "$database" mlflow)"
runuser --user=mlflow -- $bin/python -m mlflow.server.auth db upgrade --url "$(printf "$database" mlflow_auth)"
cat > /etc/systemd/system/mlflow.service <<UNIT
[Unit]
Description=MLflow tracking server
After=network-online.target postgresql.service seaweedfs.service

[Service]
User=mlflow
WorkingDirectory=/var/lib/mlflow
EnvironmentFile=/etc/mlflow/server.env
ExecStart=$bin/mlflow server --workers 2 --app-name basic-auth
Restart=on-failure

[Install]
WantedBy=multi-user.target
UNIT
systemctl daemon-reload
systemctl enable --quiet --now mlflow

# A private CA, a certificate for the one name, and nginx with it.
install --directory $tls
curve='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
openssl req -x509 $curve -days 3650 -subj "/CN=MLflow CA of $name" -keyout $tls/ca.key -out $tls/ca.pem
openssl req $curve -subj "/CN=$name" -addext "subjectAltName=DNS:$name" -keyout $tls/mlflow.key |
    openssl x509 -req -CA $tls/ca.pem -CAkey $tls/ca.key -CAcreateserial -days 397 -copy_extensions copy -out $tls/mlflow.pem
cat > /etc/nginx/conf.d/mlflow.conf <<NGINX
upstream mlflow {
    server 127.0.0.1:5000;
    keepalive 16;
}
server {
    listen 80;
    server_name $name;
    return 301 https://\$host\$request_uri;
}
server {
    listen 443 ssl http2;
    server_name $name;
    ssl_certificate $tls/mlflow.pem;
    ssl_certificate_key $tls/mlflow.key;
    ssl_protocols TLSv1.2 TLSv1.3;
    client_max_body_size 0;
    proxy_request_buffering off;
    proxy_buffering off;
    proxy_read_timeout 300s;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host \$http_host;
    proxy_set_header X-Forwarded-Proto https;
    proxy_set_header Accept-Encoding "";
    location / {
        proxy_pass http://mlflow;
    }
    location ~ /mlflow/server-info\$ {
        sub_filter_types application/json;
        sub_filter_once off;
        sub_filter 'uploads_enabled":true' 'uploads_enabled":false';
        sub_filter 'downloads_enabled":true' 'downloads_enabled":false';
        proxy_pass http://mlflow;
    }
}
NGINX
systemctl reload nginx

# The bucket, and two users.
until echo 's3.bucket.create -name mlflow' | /opt/seaweedfs/bin/weed shell -master=127.0.0.1:9333 -filer=127.0.0.1:8888 |
    grep --quiet 'create bucket'; do sleep 0.2; done
until curl --silent --fail --cacert $tls/ca.pem "https://$name/health"; do sleep 0.2; done
for user in ada grace; do
    password=$(secret)
    curl --silent --show-error --fail --cacert $tls/ca.pem --user "admin:$admin" --json "{\"username\": \"$user\", \"password\": \"$password\"}" \
        "https://$name/api/2.0/mlflow/users/create"
    (umask 077; printf 'MLFLOW_TRACKING_USERNAME=%s\nMLFLOW_TRACKING_PASSWORD=%s\n' $user "$password" > "/root/mlflow-$user.env")
done

# What each user's shell needs, and the proof, all on this host.
cat > /etc/profile.d/mlflow.sh <<PROFILE
export MLFLOW_TRACKING_URI=https://$name MLFLOW_TRACKING_SERVER_CERT_PATH=$tls/ca.pem
PROFILE
. /etc/profile.d/mlflow.sh
export MLFLOW_TRACKING_USERNAME=admin MLFLOW_TRACKING_PASSWORD="$admin"
smoke="$bin/python smoke.pyz scenario3"
$smoke begin | $smoke log | $smoke see | $smoke look | $smoke end
