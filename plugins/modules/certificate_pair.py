"""Have services take a new certificate, or else the old one again."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.mlflow_ops import certificate_pair

DOCUMENTATION = """
module: certificate_pair
short_description: Have services take a new certificate, or else the old one again
description:
  - Puts new files, which wait beside the old ones, in their place, and has units take them. If a
    unit does not, the old files are in use again, and the module fails with what it said.
  - All of it happens on the host, and goes on if the connection breaks meanwhile.
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
options:
  files:
    description: What is replaced. Without any, units take what is there.
    type: list
    elements: path
    default: []
  ending:
    description: What the names of the new files end with, after the name of the old.
    type: str
    default: .new
  reload:
    description: Units that can read their certificate anew. Those that do not run are left alone.
    type: list
    elements: str
    default: []
  restart:
    description: Units that cannot. Those that do not run are left alone.
    type: list
    elements: str
    default: []
author: The project's maintainers
"""

EXAMPLES = """
- name: Have nginx use the new key and certificate
  ops.mlflow.certificate_pair:
    files: [/etc/ssl/mlflow/mlflow.key, /etc/ssl/mlflow/mlflow.pem]
    reload: [nginx.service]
"""

RETURN = """
seconds:
  description: How long the units took to take it.
  type: float
  returned: if they did
"""


def main() -> None:
    """Swap, and have it taken."""
    lists = {"type": "list", "default": []}
    module = AnsibleModule(
        {
            "files": {**lists, "elements": "path"},
            "ending": {"default": ".new"},
            "reload": {**lists, "elements": "str"},
            "restart": {**lists, "elements": "str"},
        },
        supports_check_mode=True,
    )
    asked = module.params
    if module.check_mode:
        module.exit_json(changed=True)
    # Whoever asked for it may go away: half a swap would be left.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    began = time.monotonic()
    try:
        certificate_pair.swap(
            [Path(file) for file in asked["files"]],
            asked["ending"],
            asked["reload"],
            asked["restart"],
        )
    except (certificate_pair.NotTaken, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=True, seconds=round(time.monotonic() - began, 1))


if __name__ == "__main__":
    main()
