"""Bring the users and permissions of an MLflow server to what is asked."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.mlflow_ops import users

DOCUMENTATION = r"""
module: mlflow_users
short_description: Users and permissions of an MLflow server with basic-auth
description:
  - Makes, changes and removes users through the server's own API, as its administrator.
  - All is looked at, and refused where it cannot be, before the first change. Users who are not
    named are left alone, unless O(remove_others=true).
options:
  server:
    description: The server, as the host reaches it, as C(unix:<socket>) or C(https://<host>:<port>).
    type: str
    required: true
  host:
    description: The name to ask for. Empty means C(localhost) on a socket, else that of O(server).
    type: str
    default: ""
  certificate:
    description: A PEM file with the certificate to show to the server.
    type: str
    default: ""
  key:
    description: A PEM file with its key.
    type: str
    default: ""
  ca:
    description: A PEM file with the CA of the server's certificate. Empty means the host's store.
    type: str
    default: ""
  admin:
    description: The administrator to ask as. This user is never changed.
    type: str
    default: admin
  admin_password_file:
    description: The file on the host with the administrator's password.
    type: str
    required: true
  users:
    description: The users.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The name to log in with.
        type: str
        required: true
      password:
        description: The password to begin with.
        type: str
      admin:
        description: Whether this user may do everything.
        type: bool
        default: false
      state:
        description: V(absent) removes the user with all permissions; experiments and models stay.
        type: str
        choices: [present, absent]
        default: present
      permissions:
        description: What the user may do beyond the server's default.
        type: dict
        suboptions:
          experiments:
            description: Experiments that exist.
            type: list
            elements: dict
            suboptions:
              name: {description: The name., type: str, required: true}
              permission:
                description: What may be done; V(default) takes back what was granted.
                type: str
                choices: [READ, USE, EDIT, MANAGE, DENY, default]
                required: true
          models:
            description: Registered models that exist.
            type: list
            elements: dict
            suboptions:
              name: {description: The name., type: str, required: true}
              permission:
                description: What may be done; V(default) takes back what was granted.
                type: str
                choices: [READ, USE, EDIT, MANAGE, DENY, default]
                required: true
  passwords:
    description: When passwords are written. V(always) takes every one back to the one given here.
    type: str
    choices: [on_create, always]
    default: on_create
  remove_others:
    description: Remove all users but those named here and the administrator.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Says what would be done, also where there is no server yet.
  diff_mode:
    support: full
    description: Shows what is done, in words.
author: The project's maintainers
"""

EXAMPLES = r"""
- name: See to the users
  ops.mlflow.mlflow_users:
    server: unix:/run/mlflow/mlflow.sock
    admin_password_file: /etc/mlflow/admin_password
    users:
      - {name: ada, password: "{{ vault_mlflow_users.ada }}"}
      - {name: alan, state: absent}
"""

RETURN = r"""
actions:
  description: What was done, or would be, in words.
  returned: always
  type: list
"""


TEXT = {"type": "str", "default": ""}
NAME = {"type": "str", "required": True}
PERMISSION = ["READ", "USE", "EDIT", "MANAGE", "DENY", "default"]
PERMISSIONS = {
    "type": "list",
    "elements": "dict",
    "options": {"name": NAME, "permission": {**NAME, "choices": PERMISSION}},
}
USER = {
    "name": NAME,
    "password": {"type": "str", "no_log": True},
    "admin": {"type": "bool", "default": False},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "permissions": {
        "type": "dict",
        "options": {"experiments": PERMISSIONS, "models": PERMISSIONS},
    },
}


def main() -> None:
    """See to the users."""
    module = AnsibleModule(
        argument_spec={
            "server": NAME,
            "host": TEXT,
            "certificate": TEXT,
            "key": {**TEXT, "no_log": False},
            "ca": TEXT,
            "admin": {"type": "str", "default": "admin"},
            "admin_password_file": {**NAME, "no_log": False},
            "users": {"type": "list", "elements": "dict", "default": [], "options": USER},
            "passwords": {
                "type": "str",
                "choices": ["on_create", "always"],
                "default": "on_create",
                "no_log": False,
            },
            "remove_others": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    outcome = users.see_to({**module.params, "check": module.check_mode})
    actions = outcome.actions
    if outcome.error:
        before = f"Before that: {', '.join(actions)}." if actions else "Nothing was changed."
        module.fail_json(msg=f"{outcome.error}\n{before}", actions=actions)
    said = "".join(f"{action}\n" for action in actions)
    module.exit_json(changed=bool(actions), actions=actions, diff={"prepared": said})


if __name__ == "__main__":
    main()
