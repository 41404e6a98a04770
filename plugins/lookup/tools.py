"""Tell where a host has this very package, whatever else is installed there."""

from __future__ import annotations

from typing import Any

from ansible.plugins.lookup import LookupBase

from ..plugin_utils import tools

DOCUMENTATION = """
name: tools
short_description: The directory of the programs that these roles install on a host
description:
  - The directory that M(ops.mlflow.tools) makes. What must go on with the programs that it began
    with names it, instead of C(/usr/local/lib/mlflow/current), which leads to the newest.
author: The project's maintainers
"""

EXAMPLES = """
- ansible.builtin.debug:
    msg: "{{ lookup('ops.mlflow.tools') }}"
"""

RETURN = """
_list:
  description: The directory.
  type: list
  elements: path
"""


class LookupModule(LookupBase):
    """The lookup."""

    def run(self, terms: Any, variables: Any = None, **kwargs: Any) -> list[str]:
        """Return the directory."""
        return [tools.directory()]
