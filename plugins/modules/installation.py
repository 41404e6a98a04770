"""Read the record of what is installed on a host."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.mlflow_ops import installation

DOCUMENTATION = """
module: installation
short_description: Read where the MLflow of a host has its environment, settings and data
description:
  - Reads C(/etc/mlflow/installation.json), which the role mlflow_server writes.
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
options:
  required:
    description: Whether a host without a server is an error.
    type: bool
    default: true
  playbook_called:
    description: How a playbook is called, with C(%s) for its name. For the error.
    type: str
    default: ops.mlflow.%s
author: The project's maintainers
"""

EXAMPLES = """
- name: See what is installed
  ops.mlflow.installation:
  register: found

- name: Say where its data is
  ansible.builtin.debug:
    msg: "{{ found.installation.state_dir }}"
"""

RETURN = """
installation:
  description:
    - scenario, unit, user, environment, config_dir, state_dir, artifacts, admin_user and leader, as
      the record has them; and the paths python, settings, secrets and admin_password. Empty without
      a server.
  returned: always
  type: dict
"""


def main() -> None:
    """Read it."""
    module = AnsibleModule(
        argument_spec={
            "required": {"type": "bool", "default": True},
            "playbook_called": {"default": "ops.mlflow.%s"},
        },
        supports_check_mode=True,
    )
    facts = {}
    try:
        facts = installation.read().facts()
    except (installation.NotInstalled, PermissionError) as error:
        if module.params["required"]:
            called = module.params["playbook_called"]
            module.fail_json(msg=installation.not_here(error, called))
    module.exit_json(changed=False, installation=facts)


if __name__ == "__main__":
    main()
