"""Look at a host before another version of MLflow, or other data, comes there."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.mlflow_ops import rollout_look

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
  env_file:
    description: The file of the service's settings.
    type: str
    required: true
  link:
    description: The link to the environment in use.
    type: str
    required: true
  user:
    description: The service's user.
    type: str
    required: true
  state:
    description: The directory of a rollout's own state, which need not exist.
    type: str
    required: true
  postgresql_bin:
    description: Where to look for PostgreSQL's programs first; V('') for nowhere.
    type: str
    default: ''
author: The project's maintainers
"""

EXAMPLES = """
- name: Look at the host
  ops.mlflow.rollout_look:
    tools: /usr/local/lib/mlflow/current
    env_file: /etc/mlflow/server.env
    link: /opt/mlflow/current
    user: mlflow
    state: /var/lib/mlflow-switch
  register: found
"""

RETURN = """
question:
  description: The options, as they were given.
  returned: always
  type: dict
installed:
  description: Whether there is a server. Only then there is more than RV(earlier).
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
"""


def main() -> None:
    """Look."""
    needed = {"type": "str", "required": True}
    names = ("tools", "env_file", "link", "user", "state")
    module = AnsibleModule(
        {**dict.fromkeys(names, needed), "postgresql_bin": {"default": ""}},
        supports_check_mode=True,
    )
    question = dict(module.params)
    try:
        found = rollout_look.look(**question)
    except OSError as error:
        module.fail_json(
            msg=f"The settings of the service cannot be read: {error}. Run the playbook that "
            "provides the server. Nothing was changed."
        )
    module.exit_json(changed=False, question=question, **found)


if __name__ == "__main__":
    main()
