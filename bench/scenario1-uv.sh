#!/bin/sh
# What a person writes who knows uv: MLflow in a virtual environment, by hash, byte-compiled.
# lock.txt and uv.txt, the role's own locks, lie beside it.
set -eu
export UV_SYSTEM_CERTS=true # as the role says, for hosts behind an inspecting proxy
root=${1:-$HOME/.local/share/mlflow}
mkdir -p "$root"
python3 -m venv "$root/by-hand"
"$root/by-hand/bin/pip" install --quiet --require-hashes --requirement uv.txt
"$root/by-hand/bin/uv" pip sync --quiet --require-hashes --compile-bytecode --python "$root/by-hand/bin/python" lock.txt
ln -sfn by-hand "$root/current"
