"""Install the package on a host, beside the one before, and remove what nobody uses any more."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.mlflow_ops import installed

DOCUMENTATION = """
module: tools
short_description: Install the programs that these roles run on a host
description:
  - Brings the package C(src/) of this collection, in one transfer, into a directory below
    C(/usr/local/lib/mlflow) that is named after the digest of its content, compiles it, and lets
    C(/usr/local/lib/mlflow/current) lead there, in one step and last.
  - What runs goes on with the programs that it began with. O(state=tidied) removes what nothing
    uses any more, programs of earlier releases too. O(state=absent) removes all of it, unless a
    unit of the host still names it.
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
options:
  state:
    description: Whether to install the package, to remove what nothing uses, or all of it.
    type: str
    choices: [present, tidied, absent]
    default: present
  directory:
    description: Set by the collection itself.
    type: path
    required: true
  digest:
    description: Set by the collection itself.
    type: str
    required: true
  archive:
    description: Set by the collection itself, where the host lacks the package.
    type: str
author: The project's maintainers
"""

EXAMPLES = """
- name: Install the programs
  ops.mlflow.tools:

- name: Remove the programs that nothing uses any more
  ops.mlflow.tools:
    state: tidied
"""

RETURN = """
directory:
  description: Where the package is.
  returned: always
  type: path
removed:
  description: What was removed.
  returned: always
  type: list
  elements: path
"""


def main() -> None:
    """Do it."""
    module = AnsibleModule(
        argument_spec={
            "state": {"choices": ["present", "tidied", "absent"], "default": "present"},
            "directory": {"type": "path", "required": True},
            "digest": {"required": True},
            "archive": {},
        },
        supports_check_mode=True,
    )
    asked, dry = module.params, module.check_mode
    tools = installed.Tools(asked["directory"], asked["digest"])
    removed: list[str] = []
    changed = wanted = False
    if asked["state"] == "tidied":
        removed = tools.tidy(dry)
    elif asked["state"] == "absent":
        removed = tools.remove(dry)
    elif not tools.whole():
        changed, wanted = True, not dry and not asked["archive"]
        if asked["archive"] and not dry:
            try:
                tools.install(asked["archive"])
            except (OSError, ValueError) as error:
                module.fail_json(
                    msg=f"The programs cannot be installed in {tools.directory}: {error}. "
                    "What was installed there before is still in use."
                )
    elif not tools.leads():
        changed = True
        if not dry:
            tools.lead()
    module.exit_json(
        changed=changed or bool(removed), directory=str(tools.path), removed=removed, wanted=wanted
    )


if __name__ == "__main__":
    main()
