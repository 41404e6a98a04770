"""Keep a file of certificates: the host's own store, and a private CA after it."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.mlflow_ops import certificate_bundle

DOCUMENTATION = """
module: certificate_bundle
short_description: Keep a file with the host's certificates and that of a private CA
description:
  - For programs that are told of one file. It holds the host's own store as well, which changes
    with the host's packages, so that public servers are trusted as ever.
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
options:
  path:
    description: The file. Its directory must be there.
    type: path
    required: true
  ca:
    description: The CA's certificate, as text in PEM; V('') removes the file.
    type: str
    default: ''
author: The project's maintainers
"""

EXAMPLES = """
- name: Trust the private CA
  ops.mlflow.certificate_bundle:
    path: /opt/mlflow/client/ca-bundle.pem
    ca: "{{ certificate_ca_pem }}"
"""

RETURN = "{}"


def main() -> None:
    """Write it, where it is not as it should be."""
    module = AnsibleModule(
        {"path": {"type": "path", "required": True}, "ca": {"default": ""}},
        supports_check_mode=True,
    )
    try:
        changed = certificate_bundle.write(
            Path(module.params["path"]), module.params["ca"], module.check_mode
        )
    except OSError as error:
        module.fail_json(msg=f"The certificates could not be written: {error}")
    module.exit_json(changed=changed)


if __name__ == "__main__":
    main()
