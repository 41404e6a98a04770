"""Send the package to a host that does not have it."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ..plugin_utils import tools


class ActionModule(ActionBase):
    """The controller's side of the module `tools`: it knows the package."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Ask the host what it has; send the package, in one transfer, where it is another."""
        super().run(tmp, task_vars)
        arguments = {
            **self._task.args, "directory": tools.DIRECTORY, "digest": tools.digest(),
        }  # fmt: skip
        found = self._execute_module("ops.mlflow.tools", module_args=arguments, task_vars=task_vars)
        if found.get("wanted"):
            arguments["archive"] = tools.archive()
            found = self._execute_module(
                "ops.mlflow.tools", module_args=arguments, task_vars=task_vars
            )
        found.pop("invocation", None)  # an archive is nothing to print
        return dict(found)
