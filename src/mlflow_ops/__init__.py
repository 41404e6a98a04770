"""What this repository runs on hosts: what systemd or a person starts there, and what modules share.

A module of Ansible has it as module_utils.mlflow_ops; a host has it below /usr/local/lib/mlflow.
"""
