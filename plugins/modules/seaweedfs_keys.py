"""The keys of those who use a SeaweedFS."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.mlflow_ops import seaweedfs

DOCUMENTATION = r"""
module: seaweedfs_keys
short_description: The keys of those who use a SeaweedFS
description:
  - Sees to the file of keys - one key of an administrator, and one that may use one bucket. A key
    is the given one, else the one that is there, else one that is made here.
  - With O(rotate), does one step of a rotation, has SeaweedFS read the file, and tries all keys,
    with C(curl). Where SeaweedFS does not take them, all is as it was before.
options:
  state:
    description: V(present) sees to the file; V(read) returns the keys that it has.
    type: str
    choices: [present, read]
    default: present
  path:
    description: The file.
    type: str
    required: true
  group:
    description: The service's group, which may read it.
    type: str
    default: seaweedfs
  bucket:
    description: The bucket that the ordinary key is for.
    type: str
    default: ""
  access_key:
    description: The ordinary key. Empty means one that is made here.
    type: str
    default: ""
  secret_key:
    description: Its secret.
    type: str
    default: ""
  admin_access_key:
    description: The administrator's key. Empty means one that is made here.
    type: str
    default: ""
  admin_secret_key:
    description: Its secret.
    type: str
    default: ""
  rotate:
    description:
      - A step of a rotation. V(begin) has new keys beside the old, V(end) the new ones alone, and
        V(back) the old ones alone.
    type: str
    choices: ["", begin, end, back]
    default: ""
  unit:
    description: The service that reads the file. Needed for a rotation.
    type: str
    default: seaweedfs.service
  port:
    description: The port of S3 on loopback. Needed for a rotation.
    type: int
    default: 8333
  tls:
    description: Whether it speaks TLS there.
    type: bool
    default: false
  set_in:
    description: Where the variables are set, for the reader of an error.
    type: str
    default: your inventory
attributes:
  check_mode:
    support: full
    description: Says whether the file would be changed.
author: The project's maintainers
"""

EXAMPLES = r"""
- name: See to the keys
  ops.mlflow.seaweedfs_keys:
    path: /etc/seaweedfs/s3.json
    bucket: mlflow

- name: Read them
  ops.mlflow.seaweedfs_keys:
    state: read
    path: /etc/seaweedfs/s3.json
  register: keys
  no_log: true
"""

RETURN = r"""
credentials:
  description: Key and secret of each, as the roles call them. Empty without a file.
  returned: with state=read
  type: dict
"""


SECRET = {"type": "str", "default": "", "no_log": True}
STEPS = ["", "begin", "end", "back"]


def credentials(keys: seaweedfs.Identities) -> dict[str, str]:
    """Return the present keys by the names that roles have for them."""
    found = {}
    for name, start in (("client", ""), ("admin", "admin_")):
        for key in keys.get(name, [])[:1]:
            found[f"{start}access_key"] = key["accessKey"]
            found[f"{start}secret_key"] = key["secretKey"]
    return found


def main() -> None:
    """See to the keys."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "read"], "default": "present"},
            "path": {"type": "str", "required": True},
            "group": {"type": "str", "default": "seaweedfs"},
            "bucket": {"type": "str", "default": ""},
            "access_key": SECRET,
            "secret_key": SECRET,
            "admin_access_key": SECRET,
            "admin_secret_key": SECRET,
            "rotate": {"type": "str", "choices": STEPS, "default": ""},
            "unit": {"type": "str", "default": "seaweedfs.service"},
            "port": {"type": "int", "default": 8333},
            "tls": {"type": "bool", "default": False},
            "set_in": {"type": "str", "default": "your inventory"},
        },
        supports_check_mode=True,
    )
    p = module.params
    given = {
        "admin": (p["admin_access_key"], p["admin_secret_key"]),
        "client": (p["access_key"], p["secret_key"]),
    }
    keys = seaweedfs.Keys(Path(p["path"]), p["group"], p["bucket"], given)
    try:
        if p["state"] == "read":
            module.exit_json(changed=False, credentials=credentials(keys.kept()))
        if not p["rotate"] or module.check_mode:
            module.exit_json(changed=keys.see_to(p["rotate"], act=not module.check_mode))
        store = seaweedfs.Store(p["port"], p["tls"], p["bucket"])
        module.exit_json(changed=keys.rotate(p["rotate"], p["unit"], store))
    except seaweedfs.Unchanged:
        module.fail_json(
            msg=f"seaweedfs_access_key and seaweedfs_admin_access_key, where {p['set_in']} sets "
            "them, are those that the store has.\nChange them there first, or leave them out: then "
            "new ones are made. Nothing was changed."
        )
    except seaweedfs.Refused as refused:
        if not p["rotate"]:
            module.fail_json(msg=str(refused))
        module.fail_json(
            msg=f"SeaweedFS did not take the keys that rotation ({p['rotate']}) wrote:\n"
            f"  {refused}\nIt has those that it had before, and what uses them goes on. Its "
            f"journal: journalctl -u {p['unit']}"
        )


if __name__ == "__main__":
    main()
