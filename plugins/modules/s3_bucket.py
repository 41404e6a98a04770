"""Make an S3 bucket what it should be, and prove with the real key that it serves."""

from __future__ import annotations

import sys

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.mlflow_ops import s3

DOCUMENTATION = r"""
module: s3_bucket
short_description: Makes an S3 bucket what MLflow needs, and proves that it serves
description:
  - Makes the bucket where it is missing, and sees to versioning, lifecycle rules and the block of
    public access where the store has them. What it has not, or what the key may not touch, is said
    and is no failure.
  - Then does all that MLflow will do, with the key that MLflow will use, and leaves nothing behind.
    Whatever fails is answered with one sentence that names the variable to change.
requirements:
  - boto3, in the Python that runs this module. Set C(ansible_python_interpreter) for the task.
options:
  name:
    description: The bucket.
    type: str
    required: true
  prefix:
    description: The part of the bucket that is used, without slashes around it.
    type: str
    default: ""
  endpoint_url:
    description: The S3 endpoint. Empty means AWS.
    type: str
    default: ""
  region:
    description: The region. Empty means the store's or the instance's own.
    type: str
    default: ""
  addressing_style:
    description: How a bucket is addressed. Most stores that are not AWS want V(path).
    type: str
    choices: ["", path, virtual, auto]
    default: ""
  ca_bundle:
    description: A PEM file on the host that the endpoint's certificate is checked against.
    type: str
    default: ""
  checksums:
    description: V(when_required) for stores that do not know AWS' newer checksums.
    type: str
    choices: ["", when_supported, when_required]
    default: ""
  access_key:
    description: The access key that will be used. Empty means the instance's role.
    type: str
    default: ""
  secret_key:
    description: Its secret.
    type: str
    default: ""
  session_token:
    description: The session token of temporary credentials.
    type: str
    default: ""
  admin_access_key:
    description: The access key that makes the bucket and its settings. Empty means the same one.
    type: str
    default: ""
  admin_secret_key:
    description: Its secret.
    type: str
    default: ""
  create:
    description: Make the bucket when there is none. With V(false), that is an error.
    type: bool
    default: true
  versioning:
    description: Keep what is overwritten or deleted as an older version.
    type: bool
    default: true
  abort_days:
    description: Remove uploads that were never ended after so many days. 0 means no such rule.
    type: int
    default: 0
  noncurrent_days:
    description: Remove older versions after so many days. 0 means no such rule.
    type: int
    default: 0
  public_access_block:
    description: Block public access, for the whole bucket.
    type: bool
    default: true
  variables:
    description:
      - The names by which the reader of an error knows these options, such as C(s3_bucket_name)
        being C(mlflow_bucket).
    type: dict
    default: {}
  set_in:
    description: Where these variables are set, for the reader of an error.
    type: str
    default: your inventory
attributes:
  check_mode:
    support: full
    description: Says what would be changed. The proof is left out.
author: The project's maintainers
"""

EXAMPLES = r"""
- name: See to the bucket
  ops.mlflow.s3_bucket:
    name: models
    endpoint_url: https://s3.example.com
    access_key: "{{ key.access }}"
    secret_key: "{{ key.secret }}"
  vars:
    ansible_python_interpreter: /opt/mlflow/current/bin/python
"""

RETURN = r"""
changes:
  description: What was changed, or would be; a sentence each.
  returned: always
  type: list
skipped:
  description: What the store has not, or the key may not; a sentence each.
  returned: always
  type: list
"""


def main() -> None:
    """See to the bucket."""
    text, secret = {"type": "str", "default": ""}, {"type": "str", "default": "", "no_log": True}
    styles, checksums = ["", "path", "virtual", "auto"], ["", "when_supported", "when_required"]
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "prefix": text,
            "endpoint_url": text,
            "region": text,
            "addressing_style": {**text, "choices": styles},
            "ca_bundle": text,
            "checksums": {**text, "choices": checksums},
            "access_key": secret,
            "secret_key": secret,
            "session_token": secret,
            "admin_access_key": secret,
            "admin_secret_key": secret,
            "create": {"type": "bool", "default": True},
            "versioning": {"type": "bool", "default": True},
            "abort_days": {"type": "int", "default": 0},
            "noncurrent_days": {"type": "int", "default": 0},
            "public_access_block": {"type": "bool", "default": True},
            "variables": {"type": "dict", "default": {}},
            "set_in": {"type": "str", "default": "your inventory"},
        },
        supports_check_mode=True,
    )
    asked = {**module.params, "apply": not module.check_mode}
    set_in = asked.pop("set_in")
    if not s3.usable():
        variable = asked["variables"].get("s3_bucket_python", "s3_bucket_python")
        module.fail_json(
            msg=f"{sys.executable} has no boto3. It is set by {variable}, in {set_in}."
        )
    bucket = s3.Bucket(asked)
    error = bucket.see_to()
    said = {"changes": bucket.changes, "skipped": bucket.skipped}
    if error:
        words = f"{error}\nVariables are set in {set_in}; then run the playbook again."
        module.fail_json(msg=words, **said)
    module.exit_json(changed=bool(bucket.changes), **said)


if __name__ == "__main__":
    main()
