"""Give sites of nginx the TLS that all of these roles' sites speak."""

from __future__ import annotations

from typing import Any

from ansible.plugins.lookup import LookupBase

from ..plugin_utils import nginx

DOCUMENTATION = """
name: nginx_tls
short_description: Which TLS a site of nginx speaks
description: The lines that say which versions and ciphers; the certificate is the site's own.
author: The project's maintainers
"""

EXAMPLES = """
# Of a template for a site:
#   server {
#       listen 443 ssl;
#       {{ lookup('ops.mlflow.nginx_tls') | indent(4) }}
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
        return [nginx.tls()]
