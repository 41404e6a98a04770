"""A filter of Ansible: which names a private CA must not sign for."""

from __future__ import annotations

from collections.abc import Callable

from ..plugin_utils.certificates import outside

DOCUMENTATION = """
name: certificate_outside
short_description: Which names a private CA must not sign for
description: Those that lie in none of some domains and networks.
positional: places
options:
  _input:
    description: DNS names and addresses.
    type: list
    elements: str
    required: true
  places:
    description: Domains, each with all that is below it, addresses and networks.
    type: list
    elements: str
    required: true
author: The project's maintainers
"""

EXAMPLES = """
# [db.example.org]
strangers: "{{ ['example.com', 'db.example.org'] | ops.mlflow.certificate_outside(['com']) }}"
"""

RETURN = """
_value:
  description: The names.
  type: list
  elements: str
"""


class FilterModule:
    """What Ansible asks for the filter's name."""

    def filters(self) -> dict[str, Callable[..., list[str]]]:
        """Return the filter, by its name."""
        return {"certificate_outside": outside}
