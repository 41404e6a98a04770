"""Give units the sandbox that all services of these roles have."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

from ..plugin_utils import sandbox

DOCUMENTATION = """
name: sandbox
short_description: The sandbox of a systemd unit
description:
  - The lines of a C([Service]) section that keep a service from nearly all of its host. They are
    the strictest that a service of these roles has; a unit names what it has in place of them.
  - Each argument is a setting of C(systemd.exec) by its own name, with another value. A list
    becomes several lines.
  - What a unit may write, and where it has a setting more, stands in the unit.
author: The project's maintainers
"""

EXAMPLES = """
# Of a template for a unit:
#   ReadWritePaths=/var/lib/example
#   {{ lookup('ops.mlflow.sandbox') }}
# Of one that begins as root, and becomes another user:
#   {{ lookup('ops.mlflow.sandbox', PrivateUsers='no',
#             CapabilityBoundingSet='CAP_SETUID CAP_SETGID') }}
"""

RETURN = """
_list:
  description: The lines, as one text.
  type: list
  elements: str
"""


class LookupModule(LookupBase):
    """The lookup."""

    def run(self, terms: Any, variables: Any = None, **kwargs: Any) -> list[str]:
        """Return the lines."""
        try:
            return [sandbox.stanza(kwargs)]
        except sandbox.UnknownSetting as error:
            raise AnsibleError(str(error)) from error
