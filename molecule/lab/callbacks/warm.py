"""Import what tasks need once, before Ansible forks: the tests start it hundreds of times.

Each task of each host is a fork of the controller, which would find and import its plugins anew,
and have the collector touch, and so copy, all that it has inherited. Before each, the controller
would read the play's files of variables again; and each run would pack each module anew, which
takes as long as the module itself. Half of the time of such a fork goes into templates that it
compiles, and takes with it when it ends: here Jinja compiles each once. It changes no result.
"""

from __future__ import annotations

import gc
import hashlib
import marshal
import os
from pathlib import Path
from types import CodeType
from typing import Any

from ansible import __version__, constants
from ansible._internal._templating import _jinja_bits as jinja
from ansible.parsing.dataloader import DataLoader
from ansible.plugins import loader
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: warm
type: aggregate
short_description: Import what tasks need once
description: Imports plugins before Ansible forks, reads and packs once, and collects no garbage.
"""

# Packed modules and compiled templates, the same in every run of Ansible; molecule/run.py begins
# with none.
PACKED = Path(__file__).resolve().parents[3] / ".lab/packed" / __version__
TEMPLATES = PACKED / "templates"

ACTIONS = ["assert", "command", "copy", "debug", "fail", "include_vars", "normal", "set_fact",
           "template", "validate_argument_spec"]  # fmt: skip


compiled = jinja.AnsibleEnvironment.compile


def compiled_once(self: Any, source: Any, *rest: Any, **options: Any) -> Any:
    """Compile a template that has Ansible's own settings, or take what another has compiled.

    All else is compiled as ever: what is parsed already, what has a name, or settings of its own.
    """
    if not isinstance(source, str) or rest or options or self.overlayed:
        return compiled(self, source, *rest, **options)
    context = jinja._TemplateCompileContext.current(optional=True)
    escapes = bool(context and context.escape_backslashes)
    told = f"{escapes} {source}".encode(errors="surrogatepass")
    place = TEMPLATES / hashlib.sha256(told).hexdigest()
    try:
        return marshal.loads(place.read_bytes())  # noqa: S302 (of this checkout's own tests)
    except OSError:
        code: CodeType = compiled(self, source)
    own = place.with_suffix(f".{os.getpid()}")
    own.write_bytes(marshal.dumps(code))
    own.replace(place)  # another may be at it
    return code


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
        TEMPLATES.mkdir(parents=True, exist_ok=True)
        jinja.AnsibleEnvironment.compile = compiled_once
        Path(constants.DEFAULT_LOCAL_TMP, "ansiballz_cache").symlink_to(PACKED)
        read = DataLoader.load_from_file

        def read_once(self: Any, name: str, cache: str = "all", **options: Any) -> Any:
            """Read a file and keep it: of vars_files, Ansible keeps those in a vault alone."""
            return read(self, name, "all" if cache == "vaulted" else cache, **options)

        DataLoader.load_from_file = read_once
        gc.disable()
