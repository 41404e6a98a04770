"""Give tasks the command by which nginx checks a file before it has its place."""

from __future__ import annotations

from typing import Any

from ansible.plugins.lookup import LookupBase

from ..plugin_utils import nginx

DOCUMENTATION = """
name: nginx_validate
short_description: How nginx checks a file of its configuration
description:
  - A command for C(validate) of a task that writes a file below C(/etc/nginx). nginx checks its
    whole configuration, with the new file in place of the old.
options:
  _terms:
    description: Where the file is to be.
    required: true
    type: list
    elements: path
author: The project's maintainers
"""

EXAMPLES = """
- ansible.builtin.template:
    src: site.conf.j2
    dest: /etc/nginx/conf.d/site.conf
    mode: "0644"
    validate: "{{ lookup('ops.mlflow.nginx_validate', '/etc/nginx/conf.d/site.conf') }}"
"""

RETURN = """
_list:
  description: The commands.
  type: list
  elements: str
"""


class LookupModule(LookupBase):
    """The lookup."""

    def run(self, terms: Any, variables: Any = None, **kwargs: Any) -> list[str]:
        """Return a command for each file."""
        return [nginx.validate(path) for path in terms]
