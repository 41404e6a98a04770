"""Give users of a host the credentials by which their MLflow logs in, or take them."""

from __future__ import annotations

import socket

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.mlflow_ops import credentials

DOCUMENTATION = """
module: credentials
short_description: Give users of a host their ~/.mlflow/credentials
description:
  - Each file is written by a process that has become its user for good, so that nothing in a home
    leads root anywhere.
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
options:
  credentials:
    description: Whose, and what is in them.
    type: list
    elements: dict
    required: true
    suboptions:
      user:
        description: A login on the host.
        type: str
        required: true
      username:
        description: The user's name at the tracking server.
        type: str
      password:
        description: The password there.
        type: str
      state:
        description: Whether the login has the file.
        type: str
        choices: [present, absent]
        default: present
  advice:
    description: What to do where one cannot be written, for the end of the error.
    type: str
    default: ''
author: The project's maintainers
"""

EXAMPLES = """
- name: Let ada's programs log in as ada
  ops.mlflow.credentials:
    credentials:
      - {user: ada, username: ada, password: "{{ vault_mlflow_users.ada }}"}
"""

RETURN = "{}"


def main() -> None:
    """Write them, where they are not as they should be."""
    module = AnsibleModule(
        {
            "credentials": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "user": {"required": True},
                    "username": {},
                    "password": {"no_log": True},
                    "state": {"choices": ["present", "absent"], "default": "present"},
                },
                "required_if": [("state", "present", ("username", "password"))],
            },
            "advice": {"default": ""},
        },
        supports_check_mode=True,
    )
    result = credentials.write(module.params["credentials"], module.check_mode)
    if result.errors:
        words = "\n".join(result.errors)
        module.fail_json(
            changed=result.changed,
            msg=f"On {socket.gethostname()}: {words}\n{module.params['advice']}".strip(),
        )
    module.exit_json(changed=result.changed)


if __name__ == "__main__":
    main()
