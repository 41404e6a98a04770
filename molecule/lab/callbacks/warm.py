"""Import what tasks need once, before Ansible forks: the tests start it hundreds of times.

Each task of each host is a fork of the controller, which would find and import its plugins anew,
and have the collector touch, and so copy, all that it has inherited. Before each, the controller
would read the play's files of variables again; and each run would pack each module anew, which
takes as long as the module itself. It changes no result.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

from ansible import __version__, constants
from ansible.parsing.dataloader import DataLoader
from ansible.plugins import loader
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: warm
type: aggregate
short_description: Import what tasks need once
description: Imports plugins before Ansible forks, reads and packs once, and collects no garbage.
"""

# Packed modules, the same in every run of Ansible; molecule/run.py begins with none.
PACKED = Path(__file__).resolve().parents[3] / ".lab/packed" / __version__

ACTIONS = ["assert", "command", "copy", "debug", "fail", "include_vars", "normal", "set_fact",
           "template", "validate_argument_spec"]  # fmt: skip


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Has nothing to say."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "warm"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Import them."""
        for plugins in (loader.filter_loader, loader.test_loader):
            list(plugins.all())
        for plugins, names in {
            loader.action_loader: ACTIONS,
            loader.become_loader: ["sudo"],
            loader.connection_loader: ["local", "ssh"],
            loader.lookup_loader: ["file", "template"],
            loader.shell_loader: ["sh"],
        }.items():
            for name in names:
                plugins.get(name, class_only=True)
        PACKED.mkdir(parents=True, exist_ok=True)
        Path(constants.DEFAULT_LOCAL_TMP, "ansiballz_cache").symlink_to(PACKED)
        read = DataLoader.load_from_file

        def read_once(self: Any, name: str, cache: str = "all", **options: Any) -> Any:
            """Read a file and keep it: of vars_files, Ansible keeps those in a vault alone."""
            return read(self, name, "all" if cache == "vaulted" else cache, **options)

        DataLoader.load_from_file = read_once
        gc.disable()
