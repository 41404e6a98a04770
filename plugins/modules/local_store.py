"""Give experiments of a project that only a server could keep a place in the project."""

from __future__ import annotations

import sqlite3

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.mlflow_ops import local_store

DOCUMENTATION = """
module: local_store
short_description: Give experiments that only a server could keep a place in the project
description:
  - C(mlflow ui) hands artifacts on unless it is told not to, and gives the experiments that it
    makes the address C(mlflow-artifacts:/<id>). Nobody can log an artifact there without it.
  - This gives them, and the runs, models and traces in them, a place below the project's C(mlruns).
    What a server has received for them, in C(mlartifacts), is moved there. Nothing is removed.
  - It is done with the rights of the store's owner. A project without a store is left as it is.
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
options:
  uri:
    description: The project's tracking URI, C(file://) or C(sqlite:///).
    type: str
    required: true
author: The project's maintainers
"""

EXAMPLES = """
- name: Give experiments that only a server could keep a place in the project
  ops.mlflow.local_store:
    uri: file:///home/ada/mlflow/mlruns
"""

RETURN = """
experiments:
  description: The experiments that were mended, or would be, by name and number.
  returned: always
  type: list
  elements: str
"""


def main() -> None:
    """Mend them."""
    module = AnsibleModule({"uri": {"type": "str", "required": True}}, supports_check_mode=True)
    uri = module.params["uri"]
    try:
        found = local_store.mend(uri, check=module.check_mode)
    except (OSError, ValueError, sqlite3.Error) as error:
        module.fail_json(
            msg=f"The experiments in {uri} cannot be looked at, or mended: {error}. Close what "
            "writes to it, and see that it belongs to whom the playbook logs in as; then run the "
            "playbook again."
        )
    module.exit_json(changed=bool(found), experiments=found)


if __name__ == "__main__":
    main()
