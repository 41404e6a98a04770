"""On a host of the lab: compile once what Python imports out of a zip, as it does for a directory.

A module of Ansible comes to its host as a zip, and `zipimport` keeps nothing: of the fifth of a
second that a task takes there, half is the compilation of the same sources, thousands of times in
a run of the tests. What is executed is the same. A `.pth` file imports this at Python's start; it
does nothing on a host without the lab's shared cache, so that measurements are a user's.
"""

from __future__ import annotations

import _imp
import io
import marshal
import os
import sys
import zipimport
from types import CodeType

FOLDER = "/var/cache/lab/compiled"
compiled = zipimport._compile_source  # type: ignore[attr-defined]


def compiled_once(path: str, source: bytes) -> CodeType:
    """Return the code of a source, from the cache where it is there, and put it there if not."""
    name = f"{FOLDER}/{sys.implementation.cache_tag}-{_imp.source_hash(0, source).hex()}"
    try:
        with io.FileIO(name) as file:
            kept: CodeType = marshal.loads(file.readall())  # noqa: S302 (of this lab's own hosts)
            return kept
    except OSError:
        code: CodeType = compiled(path, source)
    try:
        with io.FileIO(f"{name}.{os.getpid()}", "x") as file:
            os.fchmod(file.fileno(), 0o644)  # for the others, whatever this one's umask is
            file.write(marshal.dumps(code))
        os.replace(f"{name}.{os.getpid()}", name)  # noqa: PTH105 (pathlib takes as long as all this)
    except OSError:
        pass  # no cache here, or somebody else was first
    return code


zipimport._compile_source = compiled_once  # type: ignore[attr-defined]
