"""Look at an environment of MLflow, and at the Python that it is made with."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.mlflow_ops import environment

DOCUMENTATION = """
module: environment_look
short_description: Look at an environment of MLflow, and at the Python that it is made with
description:
  - One trip that tells all that the role M(ops.mlflow.mlflow) must know of a host.
  - That Python may be older than what Ansible needs on a host.
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
options:
  python:
    description: The Python, as a path or a name on PATH.
    type: str
    required: true
  root:
    description: The directory that holds environments, as an absolute path.
    type: str
    required: true
  name:
    description: The environment's directory in it.
    type: str
    required: true
author: The project's maintainers
"""

EXAMPLES = """
- name: Look at what is there of MLflow 3.17.2
  ops.mlflow.environment_look:
    python: /usr/bin/python3
    root: /opt/mlflow
    name: 3.17.2-1a2b3c4d5e6f
  register: found
"""

RETURN = """
question:
  description: The options, as they were given.
  returned: always
  type: dict
error:
  description: Why O(python) does not run; V('') where it does. Only then there is more.
  returned: always
  type: str
python:
  description: Its version, as two numbers.
  returned: if it runs
  type: list
  elements: int
pip:
  description: The wheel of pip that it has for environments; V('') for none.
  returned: if it runs
  type: str
user:
  description: Who looks.
  returned: if it runs
  type: str
nearest:
  description: O(root), or the nearest directory above it that there is.
  returned: if it runs
  type: str
writable:
  description: Whether who looks may write there.
  returned: if it runs
  type: bool
free_mb:
  description: The room there, in MB.
  returned: if it runs
  type: int
complete:
  description: Whether the environment is there, whole.
  returned: if it runs
  type: bool
damage:
  description: The first thing in it that is missing or changed; V('') for none.
  returned: if it runs
  type: str
current:
  description: Where the link C(current) in O(root) leads; V('') where there is none.
  returned: if it runs
  type: str
trial:
  description: Whether C(current) may yet move back.
  returned: if it runs
  type: bool
"""


def main() -> None:
    """Look."""
    needed = {"type": "str", "required": True}
    module = AnsibleModule(
        {"python": needed, "root": needed, "name": needed}, supports_check_mode=True
    )
    question = dict(module.params)
    try:
        found = environment.look(**question)
    except environment.NoAnswer as error:
        module.exit_json(changed=False, question=question, error=str(error))
    module.exit_json(changed=False, question=question, error="", **found)


if __name__ == "__main__":
    main()
