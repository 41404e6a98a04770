"""Documentation of an action: it runs on the controller (plugins/action/variables.py)."""

DOCUMENTATION = """
module: variables
short_description: Refuse variables that no role of this collection reads any more
description:
  - Ansible passes over a variable that nobody reads in silence. This fails where one is set that a
    role had once, and says what there is in its place.
  - No host is asked.
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
options: {}
author: The project's maintainers
"""

EXAMPLES = """
- name: Refuse variables that are gone
  ops.mlflow.variables:
"""

RETURN = """
"""
