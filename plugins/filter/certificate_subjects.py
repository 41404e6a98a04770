"""A filter of Ansible: the names of a certificate, as certificates say them."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

DOCUMENTATION = """
name: certificate_subjects
short_description: Names and addresses, as certificates say them
description: As the C(subject_alt_name) of a certificate has them. Sorted, and each once.
options:
  _input:
    description: DNS names and addresses.
    type: list
    elements: str
    required: true
author: The project's maintainers
"""

EXAMPLES = """
# ['DNS:mlflow.example.com', 'IP:2001:db8::7']
subjects: "{{ ['MLflow.example.com', '2001:DB8:0::7'] | ops.mlflow.certificate_subjects }}"
"""

RETURN = """
_value:
  description: Each with C(DNS:) or C(IP:) before it.
  type: list
  elements: str
"""


def subject(name: str) -> str:
    """Return a name or an address as certificates say it."""
    try:
        return f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        return f"DNS:{name.lower()}"


def certificate_subjects(names: Sequence[str]) -> list[str]:
    """Return names and addresses as certificates say them, sorted, each once."""
    return sorted({subject(name) for name in names})


class FilterModule:
    """What Ansible asks for the filter's name."""

    def filters(self) -> dict[str, Callable[[Sequence[str]], list[str]]]:
        """Return the filter, by its name."""
        return {"certificate_subjects": certificate_subjects}
