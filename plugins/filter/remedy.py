"""A filter of Ansible: what to do about what a program said when it failed."""

from __future__ import annotations

from collections.abc import Callable

from ..module_utils.mlflow_ops.remedies import remedy

DOCUMENTATION = """
name: remedy
short_description: What to do about what a program said when it failed
description: The first remedy of a table that fits; V('') where none does.
positional: table
options:
  _input:
    description: The program's own words.
    type: str
    required: true
  table:
    description: By a regular expression for such words, the remedy.
    type: dict
    required: true
author: The project's maintainers
"""

EXAMPLES = """
remedies:
  No space left on device: Free some room.
  (?i)certificate: Set example_ca_bundle.
# Free some room.
todo: "{{ 'tar: No space left on device' | ops.mlflow.remedy(remedies) }}"
"""

RETURN = """
_value:
  description: The remedy.
  type: str
"""


class FilterModule:
    """What Ansible asks for the filter's name."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """Return the filter, by its name."""
        return {"remedy": remedy}
