#!/bin/sh
# What a person writes who knows pip: the same environment. pip compiles of its own accord.
# lock.txt, the role's own lock, lies beside it.
set -eu
root=${1:-$HOME/.local/share/mlflow}
mkdir -p "$root"
python3 -m venv "$root/by-hand"
"$root/by-hand/bin/pip" install --quiet --require-hashes --requirement lock.txt
ln -sfn by-hand "$root/current"
