"""Tell a person where the variables of this inventory are set."""

from __future__ import annotations

import os
from typing import Any

from ansible.plugins.lookup import LookupBase

DOCUMENTATION = """
name: group_vars
short_description: Where a person sets variables
description:
  - The C(group_vars) of the inventory, as one types it where C(ansible-playbook) was called. An
    inventory that is no file has none.
author: The project's maintainers
"""

EXAMPLES = """
- ansible.builtin.fail:
    msg: "Set example_port in {{ lookup('ops.mlflow.group_vars') }}."
"""

RETURN = """
_list:
  description: The directory, for people.
  type: list
  elements: str
"""


class LookupModule(LookupBase):
    """The lookup."""

    def run(self, terms: Any, variables: Any = None, **kwargs: Any) -> list[str]:
        """Return the directory."""
        inventory = (variables or {}).get("inventory_dir") or "your inventory"
        return [f"{os.path.relpath(inventory)}/group_vars"]
