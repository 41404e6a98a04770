"""Look at a host before another version of MLflow, or other data, comes there."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.mlflow_ops import installation, rollout_look

DOCUMENTATION = """
module: rollout_look
short_description: Look at a host before another version of MLflow, or other data, comes there
description:
  - One trip that tells all that the role M(ops.mlflow.mlflow_switch) must know of a host.
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
options:
  tools:
    description: The directory of the programs, or a link to it.
    type: str
    required: true
  playbook_called:
    description: How a playbook is called, with C(%s) for its name. For the error.
    type: str
    default: ops.mlflow.%s
  state:
    description: The directory of a rollout's own state, which need not exist.
    type: str
    required: true
  postgresql_bin:
    description: Where to look for PostgreSQL's programs first; V('') for nowhere.
    type: str
    default: ''
  keep_days:
    description: How many days what earlier rollouts have left is kept; V(0) for ever.
    type: int
    default: 0
author: The project's maintainers
"""

EXAMPLES = """
- name: Look at the host
  ops.mlflow.rollout_look:
    tools: /usr/local/lib/mlflow/current
    state: /var/lib/mlflow-switch
  register: found
"""

RETURN = """
question:
  description: The options, as they were given.
  returned: always
  type: dict
installation:
  description: The record, as M(ops.mlflow.installation) returns it.
  returned: always
  type: dict
installed:
  description: Whether an environment serves. Only then there is more than RV(earlier).
  returned: always
  type: bool
earlier:
  description: Whether an earlier release, with loose programs, has not finished a rollout.
  returned: always
  type: bool
serves:
  description: The environment in use.
  returned: if there is a server
  type: str
ready:
  description: Why the service is not ready; V('') where it is.
  returned: if there is a server
  type: str
databases:
  description: The databases' states, as the installed MLflow sees them; empty if it cannot.
  returned: if there is a server
  type: list
  elements: dict
readable:
  description: Which of the databases can be read, and hold a schema of MLflow's.
  returned: if there is a server
  type: list
  elements: str
irreplaceable:
  description: >-
    Why what is saved of these could not be loaded again; V('') where it could, or where there is no
    client of PostgreSQL to try it with.
  returned: if there is a server
  type: str
pending:
  description: Whether a rollout is not finished.
  returned: if there is a server
  type: bool
free_mb:
  description: The room for O(state), in MB.
  returned: if there is a server
  type: int
postgresql_client:
  description: The major version of C(pg_dump); V(0) for none.
  returned: if there is a server
  type: int
old:
  description: What earlier rollouts have left, and nobody needs once this one has left a way back.
  returned: if there is a server
  type: list
  elements: str
"""


def main() -> None:
    """Look."""
    module = AnsibleModule(
        {
            "tools": {"required": True},
            "playbook_called": {"default": "ops.mlflow.%s"},
            "state": {"required": True},
            "postgresql_bin": {"default": ""},
            "keep_days": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    question = dict(module.params)
    called = question.pop("playbook_called")
    try:
        found = rollout_look.look(**question)
    except (installation.NotInstalled, OSError) as error:
        module.fail_json(msg=installation.not_here(error, called))
    module.exit_json(changed=False, question=question, **found)


if __name__ == "__main__":
    main()
