"""Look at a host or a client of MLflow, and say in plain words what is wrong and what to do."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.mlflow_ops import doctor

DOCUMENTATION = """
module: doctor
short_description: Say in plain words what is wrong with an MLflow, and what to do
description:
  - Looks at a host of services, as root; at what leads to a server, as who uses it; or at a
    project without a server. Changes nothing, but for one small artifact that is put, got and
    deleted again.
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
options:
  kind:
    description: What is looked at.
    type: str
    choices: [host, client, local]
    required: true
  inventory:
    description: The inventory, as commands in the remedies name it.
    type: str
    required: true
  playbook:
    description: The playbook that sets this host up, without C(.yml).
    type: str
    required: true
  playbook_called:
    description: How a playbook is called, with C(%s) for its name.
    type: str
    required: true
  environment:
    description:
      - The Python environment with MLflow, of a client; V('') for none. A server's host has a
        record of its own.
    type: str
    default: ''
  version:
    description: The version of MLflow that should be there.
    type: str
    default: ''
  server:
    description: Whether this host should have a tracking server.
    type: bool
    default: false
  tools:
    description: The directory of the programs, as the lookup ops.mlflow.tools returns it.
    type: str
    default: ''
  servers:
    description: How many servers share the database.
    type: int
    default: 1
  names:
    description: Names by which people reach the server.
    type: list
    elements: str
    default: []
  names_variable:
    description: The variable that sets those names.
    type: str
    default: ''
  s3_variables:
    description: How the inventory calls the variables of S3.
    type: dict
    default: {}
  units:
    description: Further units that should run.
    type: list
    elements: str
    default: []
  files:
    description: How files should be, each with path, owner, group, mode and, if fixed, sha256.
    type: list
    elements: dict
    default: []
  certificates:
    description: Certificates, as patterns of files.
    type: list
    elements: str
    default: []
  certificate_days:
    description: For how many days they should be good.
    type: int
    default: 60
  disks:
    description: How many MB should be free, by directory.
    type: dict
    default: {}
  free_mb:
    description: How many MB should be free where MLflow writes.
    type: int
    default: 0
  project:
    description: The directory of a data scientist's project.
    type: str
    default: ''
  tracking_uri:
    description: The address of the server, for a client; V('') takes that of the project.
    type: str
    default: ''
  store:
    description: The address of S3, for a client that reaches it.
    type: str
    default: ''
author: The project's maintainers
"""

EXAMPLES = """
- name: Look at a project without a server
  ops.mlflow.doctor:
    kind: local
    inventory: inventories/scenario1
    playbook: scenario1
    playbook_called: playbooks/%s.yml
    project: /home/ada/mlflow
"""

RETURN = """
looked:
  description: What was looked at.
  returned: always
  type: list
  elements: str
unseen:
  description: What could not be looked at, by the reason.
  returned: always
  type: dict
findings:
  description: What is wrong, each with check, severity, what, means and remedy.
  returned: always
  type: list
  elements: dict
"""


def main() -> None:
    """Look."""
    text, number = {"type": "str", "default": ""}, {"type": "int", "default": 0}
    words = {"type": "list", "elements": "str", "default": []}
    names = ("environment", "version", "names_variable", "tools", "project",
             "tracking_uri", "store")  # fmt: skip
    module = AnsibleModule(
        argument_spec={
            "kind": {"choices": ["host", "client", "local"], "required": True},
            **{name: {"required": True} for name in ("inventory", "playbook", "playbook_called")},
            **dict.fromkeys(names, text),
            "server": {"type": "bool", "default": False},
            "servers": {**number, "default": 1},
            "certificate_days": {**number, "default": 60},
            "free_mb": number,
            **dict.fromkeys(("names", "units", "certificates"), words),
            "files": {**words, "elements": "dict"},
            "s3_variables": {"type": "dict", "default": {}},
            "disks": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, **doctor.examine(doctor.of_record(module.params)))


if __name__ == "__main__":
    main()
