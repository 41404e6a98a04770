"""Send the smoke to a host, run a part of it there, and return what it says, typed."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ..plugin_utils import smoke

TEXTS = {"type": "list", "elements": "str", "default": []}
OPTIONS = {
    "scenario": {"required": True, "choices": ["scenario1", "scenario2", "scenario3"]},
    "part": {"choices": ["", "access", "begin", "log", "see", "look", "end"], "default": ""},
    "python": {"default": ""},
    "addresses": TEXTS,
    "arguments": TEXTS,
    "keep": {"type": "bool", "default": False},
    "told": {"type": "list", "elements": "dict", "default": []},
}


class ActionModule(ActionBase):
    """It is sent as standard input of one command: one trip, and nothing is left behind."""

    _supports_check_mode = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Run it. What it finds wrong fails no task: who asked decides what follows from it."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _, asked = self.validate_argument_spec(argument_spec=OPTIONS)
        ran = self._execute_module(
            "ansible.builtin.command",
            module_args={"argv": smoke.command(asked), "stdin": smoke.read(asked)},
            task_vars=task_vars,
        )
        host = self._task.delegate_to or (task_vars or {})["inventory_hostname"]
        # Of the rest, what Ansible itself has to say. Not what was sent: there are passwords in it.
        kept = {name: ran[name] for name in ("ansible_facts", "warnings", "deprecations")
                if name in ran}  # fmt: skip
        return {**result, **kept, **smoke.answer(asked, ran, host)}
