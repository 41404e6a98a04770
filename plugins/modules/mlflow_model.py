"""Have a version of a registered model served on a host, in place of the one before."""

from __future__ import annotations

import socket

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.mlflow_ops.models import deploy

DOCUMENTATION = """
module: mlflow_model
short_description: Serve a version of a registered model, in place of the one before
description:
  - Fetches the version, starts it beside the one that has the traffic, sees that it predicts, and
    only then gives it the traffic. A version that does not come up is removed again.
  - In check mode it looks the version up in the registry and says what would change.
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
options:
  name:
    description: What it is served as.
    type: str
    required: true
  model:
    description: Which version, as C(models:/<name>/<version>) or C(models:/<name>@<alias>).
    type: str
    required: true
  state:
    description: Whether it is served.
    type: str
    choices: [present, absent]
    default: present
  root:
    description: Where models are kept.
    type: path
    default: /var/lib/mlflow-models
  sandbox:
    description:
      - What systemd keeps from a model, as the lookup ops.mlflow.sandbox returns it. Its files are
        fetched, and its packages brought and looked at, in the same.
    type: str
    required: true
  tools:
    description: The directory of the programs, as the lookup ops.mlflow.tools returns it.
    type: path
    required: true
  mlflow:
    description: The Python environment that has MLflow.
    type: path
    required: true
  environment:
    description:
      - Whether the model runs in that environment, or in one of its own. With V(auto) in that one
        if it has what the model requires.
    type: str
    choices: [auto, shared, own]
    default: auto
  index_url:
    description: The package index for an environment of its own; V('') is PyPI.
    type: str
    default: ''
  ca_bundle:
    description: Certificate authorities for that index.
    type: str
    default: ''
  proxy:
    description: The proxy to that index.
    type: str
    default: ''
  tracking_uri:
    description: The address of the tracking server, whose registry is asked.
    type: str
    required: true
  username:
    description: Who logs in there; V('') for nobody.
    type: str
    default: ''
  password:
    description: The password of that user.
    type: str
    default: ''
  ca:
    description: A file of certificate authorities for the tracking server.
    type: str
    default: ''
  request:
    description: What the model is asked before it gets any traffic; by default its own example.
    type: dict
    default: {}
  predictions:
    description: What it must answer to O(request).
    type: list
    elements: raw
    default: []
  proof:
    description: Whether it may go into service unproved, where nothing is known to ask it.
    type: str
    choices: [predicts, unproved]
    default: predicts
  workers:
    description: How many processes answer.
    type: int
    default: 1
  memory_mb:
    description: What they may take together, in MB; V(0) is no limit.
    type: int
    default: 0
  timeout_seconds:
    description: How long a request may take, in seconds.
    type: int
    default: 60
  start_seconds:
    description: How long the model may take until it predicts, in seconds.
    type: int
    default: 180
  allow:
    description: What of the sandbox is opened for it.
    type: list
    elements: str
    choices: [network, jit]
    default: []
  keep:
    description: How many versions before keep their files here.
    type: int
    default: 2
  dry_run:
    description: Whether a registry that does not answer yet is no failure.
    type: bool
    default: false
author: The project's maintainers
"""

EXAMPLES = """
- name: Serve the champion
  ops.mlflow.mlflow_model:
    name: iris
    model: models:/iris-classifier@champion
    sandbox: "{{ lookup('ops.mlflow.sandbox', RestrictAddressFamilies='AF_UNIX') }}"
    tools: "{{ lookup('ops.mlflow.tools') }}"
    mlflow: /opt/mlflow/current
    tracking_uri: http://localhost:5000
"""

RETURN = """
actions:
  description: What was done, in words.
  returned: always
  type: list
  elements: str
version:
  description: The version that is served.
  returned: when state is present
  type: str
instance:
  description: The deployment's name, as in C(mlflow-model@<instance>.service).
  returned: when state is present
  type: str
kept:
  description: Versions whose files are still here.
  returned: when something was deployed
  type: list
  elements: str
registered:
  description:
    - When its registered model was made, in milliseconds; by this the server's guard knows it where
      it has been renamed.
  returned: when state is present
  type: str
packages:
  description: Which packages it runs with, and why, in words.
  returned: when something was deployed
  type: str
proof:
  description: What the model was asked when it started, and what it answered.
  returned: when something was deployed
  type: dict
"""

EMPTY = {"type": "str", "default": ""}


def main() -> None:
    """Do it."""
    module = AnsibleModule(
        argument_spec={
            "name": {"required": True},
            "model": {"required": True},
            "state": {"choices": ["present", "absent"], "default": "present"},
            "root": {"type": "path", "default": str(deploy.ROOT)},
            "sandbox": {"required": True},
            "tools": {"type": "path", "required": True},
            "mlflow": {"type": "path", "required": True},
            "environment": {"choices": ["auto", "shared", "own"], "default": "auto"},
            "proof": {"choices": ["predicts", "unproved"], "default": "predicts"},
            "index_url": EMPTY,
            "ca_bundle": EMPTY,
            "proxy": EMPTY,
            "tracking_uri": {"required": True},
            "username": EMPTY,
            "password": {**EMPTY, "no_log": True},
            "ca": EMPTY,
            "request": {"type": "dict", "default": {}},
            "predictions": {"type": "list", "elements": "raw", "default": []},
            "workers": {"type": "int", "default": 1},
            "memory_mb": {"type": "int", "default": 0},
            "timeout_seconds": {"type": "int", "default": 60},
            "start_seconds": {"type": "int", "default": 180},
            "allow": {
                "type": "list",
                "elements": "str",
                "choices": ["network", "jit"],
                "default": [],
            },
            "keep": {"type": "int", "default": 2},
            "dry_run": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    asked = module.params
    answer = deploy.apply({**asked, "check": module.check_mode})
    if words := answer.pop("error"):
        after = "Nothing is served under this name."
        if module.check_mode:
            after = "Nothing was changed."
        elif serving := answer.get("serving"):
            after = (
                f"Version {serving.get('version')} is served as before; the other got no traffic."
            )
        module.fail_json(
            msg=f"{asked['model']} is not served on {socket.gethostname()}. {words}\n{after}"
        )
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
