"""Look at a host before backups are set up there."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.mlflow_ops import installation
from ..module_utils.mlflow_ops.backup import look

DOCUMENTATION = """
module: backup_look
short_description: Look at a host before backups are set up there
description:
  - One trip that tells all that the role M(ops.mlflow.mlflow_backup) must know of a host.
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
options:
  playbook_called:
    description: How a playbook is called, with C(%s) for its name. For the error.
    type: str
    default: ops.mlflow.%s
  target:
    description: A directory for backups; V('') for S3.
    type: str
    default: ''
  calendar:
    description: When backups are made, as systemd writes it; V('') for never.
    type: str
    default: ''
  verify_calendar:
    description: When sets are verified, as systemd writes it; V('') for never.
    type: str
    default: ''
  postgresql_bin:
    description: A directory with C(pg_dump); V('') for what is on the PATH.
    type: str
    default: ''
author: The project's maintainers
"""

EXAMPLES = """
- name: Look at the host
  ops.mlflow.backup_look:
    target: /var/backups/mlflow
  register: found
"""

RETURN = """
root:
  description: Whether the look is root's.
  returned: always
  type: bool
systemd:
  description: Whether systemd runs the host.
  returned: always
  type: bool
installation:
  description: The record, as M(ops.mlflow.installation) returns it.
  returned: always
  type: dict
sqlite:
  description: The directories of the service's SQLite databases.
  returned: always
  type: list
postgresql:
  description: Whether a database is PostgreSQL's.
  returned: always
  type: bool
ways:
  description: As M(ops.mlflow.host_look) tells them, of C(target).
  returned: always
  type: dict
inside:
  description: What is to be backed up, and has the target in it.
  returned: always
  type: list
target:
  description: The target, without links.
  returned: always
  type: str
target_kind:
  description: V(directory), V(absent), V(file), V(other), or V(none) in S3.
  returned: always
  type: str
free_mb:
  description: The room there, in MB; V(-1) in S3.
  returned: always
  type: int
programs:
  description: Which of C(rclone) and C(age) are there.
  returned: always
  type: list
pg_dump:
  description: The path of C(pg_dump); V('') for none.
  returned: always
  type: str
initdb:
  description: Whether PostgreSQL's server programs are there.
  returned: always
  type: bool
calendar:
  description: What systemd says against O(calendar); V('') for nothing.
  returned: always
  type: str
verify_calendar:
  description: The same of O(verify_calendar).
  returned: always
  type: str
"""


def main() -> None:
    """Look."""
    text = {"type": "str", "default": ""}
    module = AnsibleModule(
        {
            "playbook_called": {"default": "ops.mlflow.%s"},
            "target": text,
            "calendar": text,
            "verify_calendar": text,
            "postgresql_bin": text,
        },
        supports_check_mode=True,
    )
    asked = dict(module.params)
    called = asked.pop("playbook_called")
    try:
        found = look.look(**asked)
    except (installation.NotInstalled, OSError) as error:
        module.fail_json(msg=installation.not_here(error, called))
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
