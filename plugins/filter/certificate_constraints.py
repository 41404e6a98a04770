"""A filter of Ansible: what binds a private CA to domains and networks."""

from __future__ import annotations

from collections.abc import Callable

from ..plugin_utils.certificates import constraints

DOCUMENTATION = """
name: certificate_constraints
short_description: What binds a private CA to domains and networks
description:
  - As the C(name_constraints) of a request have them. Without a network, it signs for no address.
options:
  _input:
    description: Domains, each with all that is below it, addresses and networks.
    type: list
    elements: str
    required: true
author: The project's maintainers
"""

EXAMPLES = """
# permitted: [DNS:example.com, IP:192.0.2.0/24]; excluded: []
constraints: "{{ ['example.com', '192.0.2.0/24'] | ops.mlflow.certificate_constraints }}"
"""

RETURN = """
_value:
  description: Lists of names, C(permitted) and C(excluded).
  type: dict
"""


class FilterModule:
    """What Ansible asks for the filter's name."""

    def filters(self) -> dict[str, Callable[..., dict[str, list[str]]]]:
        """Return the filter, by its name."""
        return {"certificate_constraints": constraints}
