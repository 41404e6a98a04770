"""A filter of Ansible: which domains and networks a private CA is bound to."""

from __future__ import annotations

from collections.abc import Callable

from ..plugin_utils.certificates import permitted

DOCUMENTATION = """
name: certificate_permitted
short_description: Which domains and networks a private CA is bound to
description: As its certificate says. None, where it may sign for all.
options:
  _input:
    description: The CA's certificate in PEM.
    type: str
    required: true
author: The project's maintainers
"""

EXAMPLES = """
# [example.com, 192.0.2.0/24]
places: "{{ certificate_ca_pem | ops.mlflow.certificate_permitted }}"
"""

RETURN = """
_value:
  description: Domains and networks.
  type: list
  elements: str
"""


class FilterModule:
    """What Ansible asks for the filter's name."""

    def filters(self) -> dict[str, Callable[..., list[str]]]:
        """Return the filter, by its name."""
        return {"certificate_permitted": permitted}
