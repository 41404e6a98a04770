"""See whether an inventory leads away from where an installation keeps its data."""

from __future__ import annotations

import json

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.mlflow_ops import places

DOCUMENTATION = """
module: places
short_description: See whether an inventory leads away from where an installation keeps its data
description:
  - Compares where the data is to be with where what is installed on the host has it. Where these
    differ, it looks into both, and says what would be out of sight and what to do.
  - Changes nothing.
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
options:
  owner:
    description: Whose data it is.
    type: str
    choices: [server, store, backup, project]
    required: true
  file:
    description:
      - The file that says where it is now. For a server the record of what is installed goes
        first.
    type: path
    required: true
  wanted:
    description:
      - A JSON object, as text, since it may hold passwords. By C(tracking), C(auth), C(artifacts)
        and C(keys) of a server, C(objects) of a store, C(sets) of a backup, C(local) of a project
        where it is to be. An address as MLflow has it; for S3 with C( at ) and the endpoint; or a
        directory.
    type: str
    required: true
  settings:
    description: A JSON object, as text. The variables for S3, as a service has them.
    type: str
    default: '{}'
  user:
    description: The service's user, who may read both; V('') is who looks.
    type: str
    default: ''
  python:
    description: The Python that has MLflow.
    type: path
    default: /usr/bin/python3
  variable:
    description: The variable that says that it is meant.
    type: str
    required: true
  word:
    description: What it must be for that.
    type: str
    required: true
  given:
    description: What it is.
    type: str
    default: ''
  playbook:
    description: The playbook that sets this up.
    type: str
    required: true
  playbook_called:
    description: How a playbook is called, with C(%s) for its name.
    type: str
    default: ops.mlflow.%s
author: The project's maintainers
"""

EXAMPLES = """
- name: See whether backups would go elsewhere
  ops.mlflow.places:
    owner: backup
    file: /etc/mlflow/backup.env
    wanted: '{"sets": "/mnt/backups"}'
    variable: mlflow_backup_move_confirm
    word: team1
    playbook: backup
  register: seen
"""

RETURN = """
refusal:
  description: What would be lost from sight, and what to do; V('') where nothing would.
  returned: always
  type: str
"""


def main() -> None:
    """Look."""
    text, needed = {"type": "str", "default": ""}, {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "owner": {"choices": [*places.OWNERS], "required": True},
            "file": {"type": "path", "required": True},
            "wanted": {"type": "str", "required": True, "no_log": True},
            "settings": {"type": "str", "default": "{}", "no_log": True},
            "user": text,
            "python": {"type": "path", "default": "/usr/bin/python3"},
            "variable": needed,
            "word": needed,
            "given": text,
            "playbook": needed,
            "playbook_called": {"default": "ops.mlflow.%s"},
        },
        supports_check_mode=True,
    )
    asked = {key: value for key, value in module.params.items() if key != "playbook_called"}
    asked |= {name: json.loads(asked[name]) for name in ("wanted", "settings")}
    question = places.Asked(**asked, called=module.params["playbook_called"])
    module.exit_json(changed=False, refusal=places.refusal(question))


if __name__ == "__main__":
    main()
