"""Look at a host before SeaweedFS is set up there: one trip, with named facts."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.mlflow_ops import seaweedfs

DOCUMENTATION = """
module: seaweedfs_look
short_description: Look at a host before SeaweedFS is set up there
description:
  - One trip that tells what the role seaweedfs must know. It changes nothing.
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
options:
  unit:
    description: The service.
    type: str
    required: true
  gate:
    description: The name of the units that hold the port that other hosts reach.
    type: str
    required: true
  units:
    description: What must run, now and at boot. O(unit) is among them.
    type: list
    elements: str
    required: true
  user:
    description: The service's user.
    type: str
    required: true
  data_dir:
    description: Where it keeps objects.
    type: str
    required: true
  weed:
    description: The path of the program.
    type: str
    required: true
  keys:
    description: The file of keys.
    type: str
    required: true
  secrets:
    description: The file of the service's own keys. Only whether it is there is told.
    type: str
    required: true
  settings:
    description: Files that the service reads when it starts.
    type: list
    elements: str
    default: []
  tools:
    description: The link to the programs of M(ops.mlflow.tools) that are in use.
    type: str
    default: /usr/local/lib/mlflow/current
  ports:
    description: TCP ports. Each is looked at together with that port plus 10000, for gRPC.
    type: list
    elements: int
    default: []
  files:
    description: How directories and files should be, as M(ops.mlflow.host_look) is asked.
    type: list
    elements: dict
    default: []
author: The project's maintainers
"""

EXAMPLES = """
- name: Look at the host
  ops.mlflow.seaweedfs_look:
    unit: seaweedfs.service
    gate: seaweedfs-s3
    units: [seaweedfs.service]
    user: seaweedfs
    data_dir: /var/lib/seaweedfs
    weed: /opt/seaweedfs/4.48/weed
    keys: /etc/seaweedfs/s3.json
    secrets: /etc/seaweedfs/secrets.env
    ports: [8333]
  register: seen
"""

RETURN = """
asked:
  description: What was asked, by which a later task knows whether this is its own answer.
  returned: always
  type: dict
found:
  description: What there is.
  returned: always
  type: dict
  contains:
    listeners: {description: Who else has one of the ports., type: dict}
    account: {description: Whether the user exists., type: bool}
    person: {description: Whether that is a person's account., type: bool}
    data: {description: Whether there are objects., type: bool}
    data_owner: {description: "Who owns O(data_dir), V('') where it is absent.", type: str}
    pip: {description: Whether there is the wheel of pip that Debian keeps., type: bool}
    tools: {description: "The directory that O(tools) leads to, or V('').", type: str}
    weed: {description: Whether the program is there., type: bool}
    unread_settings: {description: Whether the service runs with older settings., type: bool}
    unread_keys: {description: Whether the service runs with older keys., type: bool}
    started: {description: "Whether all of O(units) run, now and at boot.", type: bool}
    gate: {description: Whether other hosts reach a port., type: bool}
    moved: {description: "O(data_dir), where the service has another, by C(objects).", type: dict}
    amiss: {description: The paths of O(files) that are not as they should be., type: list}
"""


def main() -> None:
    """Look."""
    needed = {"type": "str", "required": True}
    path, texts = {**needed, "no_log": False}, {"type": "list", "elements": "str"}
    module = AnsibleModule(
        argument_spec={
            "unit": needed,
            "gate": needed,
            "units": {**texts, "required": True},
            "user": needed,
            "data_dir": needed,
            "weed": needed,
            "keys": path,
            "secrets": path,
            "settings": {**texts, "default": []},
            "tools": {"type": "str", "default": "/usr/local/lib/mlflow/current"},
            "ports": {"type": "list", "elements": "int", "default": []},
            "files": {"type": "list", "elements": "dict", "default": []},
        },
        supports_check_mode=True,
    )
    asked = dict(module.params)
    found = seaweedfs.look(seaweedfs.Asked(**asked))
    module.exit_json(changed=False, asked=asked, found=found)


if __name__ == "__main__":
    main()
