"""Refuse variables that no role reads any more."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ..plugin_utils import variables


class ActionModule(ActionBase):
    """On the controller alone; no host is asked."""

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Fail with all of them at once."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        if found := variables.refusals(task_vars or {}):
            place = f"{(task_vars or {}).get('inventory_dir') or 'your inventory'}/group_vars"
            words = [*found, f"Remove it from {place}, or from -e. Nothing was changed."]
            return {**result, "failed": True, "msg": "\n".join(words)}
        return {**result, "changed": False}
