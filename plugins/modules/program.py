"""Run one of the programs that ops.mlflow.tools has installed, and return what it answers."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.mlflow_ops import INSTALLED

DOCUMENTATION = """
module: program
short_description: Run one of the programs of these roles, and return what it answers
description:
  - Runs a program that M(ops.mlflow.tools) has installed. Its last line, a JSON document, is the
    answer; what it says on standard error is why it failed.
  - In check mode it is run only with O(changes=false).
attributes:
  check_mode: {support: full}
  diff_mode: {support: none}
options:
  name:
    description: The program, as C(python3 /usr/local/lib/mlflow/current) lists them.
    type: str
    required: true
  arguments:
    description: What it is told.
    type: list
    elements: str
    default: []
  stdin:
    description: What it reads from standard input, such as what must not be among arguments.
    type: str
    default: ''
  user:
    description: The user that it runs as; V('') is root, or whoever Ansible is there.
    type: str
    default: ''
  python:
    description: The Python that runs it.
    type: path
    default: /usr/bin/python3
  directory:
    description: The directory of the programs.
    type: path
    default: /usr/local/lib/mlflow/current
  changes:
    description: Whether it may change something.
    type: bool
    default: true
  may_fail:
    description: Whether a failure is told as RV(problem), for whoever has something to do then.
    type: bool
    default: false
  progress:
    description:
      - A file on the host, in which the program writes how far it is, line by line. The last line
        is shown every ten seconds.
    type: path
    default: ''
  otherwise:
    description: What is as it was when the program fails, to be said after its words.
    type: str
    default: Nothing was changed.
author: The project's maintainers
"""

EXAMPLES = """
- name: See which secrets can be rotated
  ops.mlflow.program:
    name: rotation
    arguments: [look]
    changes: false
"""

RETURN = """
answer:
  description: The JSON document of its last line; an empty one where there is none.
  returned: always
  type: raw
problem:
  description: Why it failed; V('') where it did not.
  returned: always
  type: str
stdout:
  description: All that it said.
  returned: always
  type: str
"""


def options(user: str) -> dict[str, Any]:
    """Return how a process of a user is started. Raises KeyError.

    Another user's processes see its environment: it has of root's what leads to networks, no more.
    """
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    if not user:
        return {"env": environment}
    account = pwd.getpwnam(user)
    own = {"HOME": account.pw_dir, "USER": user, "LOGNAME": user}
    if account.pw_uid == os.geteuid():
        return {"env": environment | own}
    environment = {
        name: value
        for name, value in environment.items()
        if name in ("PATH", "TZ", "LC_ALL") or name.lower().endswith("_proxy")
    } | own
    groups = os.getgrouplist(user, account.pw_gid)
    return {
        "env": environment,
        "user": account.pw_uid,
        "group": account.pw_gid,
        "extra_groups": groups,
    }


def words(stderr: str) -> str:
    """Return why a program failed: what it says to people, or the last line of a traceback."""
    lines = stderr.strip().splitlines() or ["It said nothing."]
    return lines[-1] if "Traceback" in stderr else "\n".join(lines)


def answer(stdout: str) -> Any:
    """Return the JSON document of the last line."""
    last = (stdout.strip().splitlines() or [""])[-1]
    try:
        return json.loads(last)
    except ValueError:
        return {}


def main() -> None:
    """Run it."""
    module = AnsibleModule(
        argument_spec={
            "name": {"required": True},
            "arguments": {"type": "list", "elements": "str", "default": []},
            "stdin": {"default": "", "no_log": True},
            "user": {"default": ""},
            "python": {"type": "path", "default": "/usr/bin/python3"},
            "directory": {"type": "path", "default": str(INSTALLED)},
            "changes": {"type": "bool", "default": True},
            "may_fail": {"type": "bool", "default": False},
            "progress": {"type": "path", "default": ""},  # the controller's side looks at it
            "otherwise": {"default": "Nothing was changed."},
        },
        supports_check_mode=True,
    )
    asked = module.params
    if asked["changes"] and module.check_mode:
        module.exit_json(changed=True, answer={}, problem="", stdout="")
    if asked["progress"]:  # whoever looks at it sees by this whether there is something to wait for
        Path(asked["progress"] + ".pid").write_text(str(os.getpid()), encoding="utf-8")
    command = [asked["python"], "-BEs", asked["directory"], asked["name"], *asked["arguments"]]
    try:
        done = subprocess.run(
            command, input=asked["stdin"], capture_output=True, text=True, check=False, cwd="/",
            **options(asked["user"]),
        )  # fmt: skip
    except (OSError, KeyError) as error:
        problem, stdout = f"{asked['name']} cannot be run: {error}", ""
    else:
        problem, stdout = words(done.stderr) if done.returncode else "", done.stdout
    said = {"answer": answer(stdout), "problem": problem, "stdout": stdout}
    if problem and not asked["may_fail"]:
        module.fail_json(msg=f"{problem}\n{asked['otherwise']}", **said)
    module.exit_json(changed=asked["changes"], **said)


if __name__ == "__main__":
    main()
