"""What Python on a host of the lab does at its start, lest thousands of processes do it in a run.

Compile once: a module of Ansible comes to its host as a zip, and `zipimport` keeps nothing: of the
fifth of a second that a task takes there, half is the compilation of the same sources. Each of some
twenty environments is ten thousand files to compile, the same on every host. What is executed is
the same.

Import first, collect garbage then: a sixth of the time in which MLflow is imported, the collector
looks at what stays. It begins after half a million objects, and from there on is as usual. And at
its end, where a process that has MLflow would spend a second looking once more at all that it has.

Debian's Python, and every virtual environment of it, imports this as `sitecustomize`; it does
nothing on a host without the lab's shared cache, so that measurements are a user's.
"""

from __future__ import annotations

import _imp
import atexit
import gc
import io
import marshal
import os
import sys
import zipimport
from importlib.machinery import SourceFileLoader
from types import CodeType

FOLDER = "/var/cache/lab/compiled"
USUAL = gc.get_threshold()
of_a_zip = zipimport._compile_source  # type: ignore[attr-defined]
of_a_file = SourceFileLoader.source_to_code


def place(source: bytes) -> str:
    """Return where the code of a source is kept."""
    return f"{FOLDER}/{sys.implementation.cache_tag}-{_imp.source_hash(0, source).hex()}"


def kept(name: str, path: str) -> CodeType | None:
    """Return the code that is kept there, as that of a file of this host; nothing if none is."""
    try:
        with io.FileIO(name) as file:
            code: CodeType = marshal.loads(file.readall())  # noqa: S302 (of this lab's own hosts)
    except OSError:
        return None
    _imp._fix_co_filename(code, path)  # type: ignore[attr-defined]
    return code


def keep(name: str, code: CodeType) -> CodeType:
    """Keep code there, if nobody else was first, and return it."""
    try:
        with io.FileIO(f"{name}.{os.getpid()}", "x") as file:
            os.fchmod(file.fileno(), 0o644)  # for the others, whatever this one's umask is
            file.write(marshal.dumps(code))
        os.replace(f"{name}.{os.getpid()}", name)  # noqa: PTH105 (pathlib takes as long as all this)
    except OSError:
        pass  # no cache here, or somebody else is at it
    return code


def from_a_zip(path: str, source: bytes) -> CodeType:
    """Compile what is in a zip."""
    name = place(source)
    return kept(name, path) or keep(name, of_a_zip(path, source))


def from_a_file(
    self: SourceFileLoader, data: bytes, path: str, *rest: object, _optimize: int = -1
) -> CodeType:
    """Compile a file, as imports, `compileall` and installers do."""
    if _optimize != -1 or not isinstance(data, bytes):
        return of_a_file(self, data, path, *rest, _optimize=_optimize)
    name = place(data)
    return kept(name, path) or keep(name, of_a_file(self, data, path, *rest))


def as_usual(phase: str, _: object) -> None:
    """Have the next collections at their usual times."""
    if phase == "stop":
        gc.callbacks.remove(as_usual)
        gc.set_threshold(*USUAL)


if os.path.isdir(FOLDER):  # noqa: PTH112 (pathlib takes longer than all this)
    zipimport._compile_source = from_a_zip  # type: ignore[attr-defined]
    SourceFileLoader.source_to_code = from_a_file  # type: ignore[assignment,method-assign]
    gc.callbacks.append(as_usual)
    gc.set_threshold(500_000, *USUAL[1:])
    atexit.register(gc.freeze)  # the first that is registered is the last that is called
