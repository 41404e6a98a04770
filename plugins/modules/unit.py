"""Start or restart a unit, and say why where that does not work."""

from __future__ import annotations

import textwrap

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.mlflow_ops.host import units

DOCUMENTATION = """
module: unit
short_description: Start or restart a unit of systemd, and say why where that does not work
description:
  - A start that is asked for is no crash. The starts that systemd has counted (C(StartLimitBurst))
    are forgotten before it, so that a playbook may restart a service as often as it changes it.
  - The words of a failure are those of just this start in the journal; or, where systemd refused
    it, systemd's own.
  - C(ansible.builtin.systemd_service) does the rest, such as reading unit files anew.
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
options:
  name:
    description: The unit.
    type: str
    required: true
  state:
    description: Whether it is started where it does not run, or restarted.
    type: str
    choices: [started, restarted]
    default: started
  first:
    description: Of its words those that come first, a regular expression. One of them is shown.
    type: str
    default: ''
  noise:
    description: Those of its words that are left out, a regular expression.
    type: str
    default: ''
  failure:
    description: What is said where it fails; C(%s) in it stands for the words.
    type: str
    default: '%s'
author: The project's maintainers
"""

EXAMPLES = """
- name: Restart MLflow
  ops.mlflow.unit:
    name: mlflow.service
    state: restarted
    failure: |-
      MLflow does not serve. Its last words:
      %s
"""

RETURN = ""


def main() -> None:
    """Do it."""
    module = AnsibleModule(
        {
            "name": {"required": True},
            "state": {"choices": ["started", "restarted"], "default": "started"},
            "first": {"default": ""},
            "noise": {"default": ""},
            "failure": {"default": "%s"},
        },
        supports_check_mode=True,
    )
    asked = module.params
    verb = asked["state"].removesuffix("ed")
    runs = units.ask(asked["name"], "ActiveState")["ActiveState"] == "active"
    changed = verb == "restart" or not runs
    if changed and not module.check_mode:
        words = units.start(asked["name"], verb, asked["first"], asked["noise"])
        if words:
            told = textwrap.indent(words, "  ")
            module.fail_json(msg=asked["failure"].replace("%s", told))
    module.exit_json(changed=changed)


if __name__ == "__main__":
    main()
