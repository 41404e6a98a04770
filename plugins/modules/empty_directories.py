"""Remove those of some directories that are empty."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: empty_directories
short_description: Remove those of some directories that are empty
description:
  - For the end of an uninstallation, whose directories may hold what is somebody else's.
  - What has something in it stays, as does a link; what is gone already is no failure.
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
options:
  paths:
    description: The directories, one that lies in another before that.
    type: list
    elements: path
    required: true
author: The project's maintainers
"""

EXAMPLES = """
- name: Remove the project's directory, if it is empty
  ops.mlflow.empty_directories:
    paths: [/opt/mlflow/client]
"""

RETURN = """
removed:
  description: What was removed.
  returned: always
  type: list
  elements: path
"""


def remove(paths: list[Path], check: bool) -> list[str]:
    """Remove those that are empty, in their order; return them, or those that would be removed."""
    removed: list[str] = []
    for path in paths:
        try:
            if check:
                inside = [str(entry) for entry in path.iterdir() if str(entry) not in removed]
                if inside or path.is_symlink():
                    continue
            else:
                path.rmdir()
        except OSError:  # there is something in it, or it is gone
            continue
        removed.append(str(path))
    return removed


def main() -> None:
    """Remove them."""
    module = AnsibleModule(
        {"paths": {"type": "list", "elements": "path", "required": True}}, supports_check_mode=True
    )
    removed = remove([Path(path) for path in module.params["paths"]], module.check_mode)
    module.exit_json(changed=bool(removed), removed=removed)


if __name__ == "__main__":
    main()
