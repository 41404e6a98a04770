"""Run the module `program`; show how far it is, where the program tells that."""

from __future__ import annotations

import shlex
import time
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

MOST = 7 * 24 * 3600  # seconds that a program may take, far beyond any
# Whether the program runs, and the last line of what it tells. (With sudo, both outputs are one.)
LOOK = (
    'exec 2>/dev/null; test ! -e {0}.pid || kill -0 "$(cat {0}.pid)" && echo runs || echo gone; '
    "tail -n 1 {0}"
)
EVERY = 10  # seconds between two looks; the first come sooner, for what is soon done


class ActionModule(ActionBase):
    """With O(progress), the program runs by itself on the host, and is looked at until it ends."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Run it; return what the module does."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        file = self._task.args.get("progress")
        if not file:
            result.update(self._execute_module("ops.mlflow.program", task_vars=task_vars))
            return result
        limit, self._task.async_val = self._task.async_val, MOST
        try:
            started = self._execute_module(
                "ops.mlflow.program", task_vars=task_vars, wrap_async=True
            )
        finally:
            self._task.async_val = limit  # of a task with one, Ansible itself would look
        if not (job := started.get("ansible_job_id")):
            return {**result, **started}
        said, pause, gone = "", 1, 0
        while not (found := self._status(job, "status", task_vars)).get("finished"):
            if found.get("failed") or gone > 1:
                return {**result, **self._ended(found.get("msg", ""))}
            time.sleep(pause)
            pause = min(2 * pause, EVERY)
            looked = self._low_level_execute_command(LOOK.format(shlex.quote(file)))["stdout"]
            lives, _, line = looked.strip().partition("\n")
            gone = gone + 1 if lives == "gone" else 0
            if line and line != said:
                said = line
                Display().display(f"{(task_vars or {})['inventory_hostname']}: {line}")
        self._status(job, "cleanup", task_vars)
        if "problem" not in found:  # the module had no time to say how it ended
            return {**result, **self._ended(found.get("msg", ""))}
        for name in ("ansible_job_id", "results_file", "started", "finished"):
            found.pop(name, None)
        return {**result, **found}

    def _ended(self, words: str) -> dict[str, Any]:
        """Return what the module would, of a program that somebody ended, or its host."""
        problem = " ".join(f"It was ended from outside. {words}".split())
        failed = not self._task.args.get("may_fail")
        return {"answer": {}, "problem": problem, "stdout": "", "msg": problem, "failed": failed}

    def _status(self, job: str, mode: str, task_vars: Any) -> dict[str, Any]:
        directory = self.get_shell_option("async_dir", default="~/.ansible_async")
        return dict(self._execute_module(
            "ansible.legacy.async_status", task_vars=task_vars,
            module_args={"jid": job, "mode": mode, "_async_dir": directory},
        ))  # fmt: skip
