"""The package as it is installed on a host: a directory by the digest of its content, and a link.

    DIRECTORY/<digest>/__main__.py, mlflow_ops/    root's, never changed
    DIRECTORY/current                              leads to the newest; it moves last

Releases before had loose programs in DIRECTORY, and those that serve models in a directory beside
it; they go when no unit, command or process needs them.
"""

from __future__ import annotations

import base64
import compileall
import contextlib
import hashlib
import io
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

DIGEST = re.compile(r"[0-9a-f]{16}")
UNITS = Path("/etc/systemd/system")
COMMANDS = Path("/usr/local/sbin")
PROC = Path("/proc")


def digest(directory: Path) -> str:
    """Return the digest of a package's files, as plugin_utils/tools.py computes it."""
    whole = hashlib.sha256()
    names = {
        path.relative_to(directory).as_posix(): path
        for path in directory.rglob("*")
        if path.suffix in {".py", ".txt"} and path.is_file()
    }
    for name in sorted(names, key=lambda name: Path(name)):
        content = hashlib.sha256(names[name].read_bytes()).hexdigest()
        whole.update(f"{name} {content}\n".encode())
    return whole.hexdigest()[:16]


def named(path: Path, text: str, *, below: bool = True) -> bool:
    """Whether a text names a path.

    Args:
        path: a file or directory.
        text: of a unit, say.
        below: whether what is below the path counts too.
    """
    rest = r"[\w.-]" if below else r"[\w./-]"
    return re.search(f"{re.escape(str(path))}(?!{rest})", text) is not None


def units() -> Iterator[str]:
    """Yield the text of each unit, and of each drop-in, that this host has of its own."""
    for pattern in ("*.service", "*.service.d/*.conf"):
        for unit in UNITS.glob(pattern):
            with contextlib.suppress(OSError):  # a link to a unit that was removed
                yield unit.read_text(encoding="utf-8", errors="replace")


class Tools:
    """What is below a host's directory of programs.

    Attributes:
        path: where the package of that digest is, or would be.
        models: where earlier releases had the programs that serve models.
    """

    def __init__(self, directory: str | Path, digest: str) -> None:
        self.directory, self.digest = Path(directory), digest
        self.path, self.current = self.directory / digest, self.directory / "current"
        self.models = self.directory.with_name(f"{self.directory.name}-model")

    def whole(self) -> bool:
        """Whether the package is there as it should be."""
        return self.path.is_dir() and digest(self.path) == self.digest

    def leads(self) -> bool:
        """Whether `current` leads to it."""
        return self.current.is_symlink() and self.current.readlink() == Path(self.digest)

    def lead(self) -> None:
        """Let `current` lead to it, in one step."""
        fresh = self.directory / f".current.{os.getpid()}"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(self.digest)
        fresh.replace(self.current)

    def install(self, archive: str) -> None:
        """Unpack the package, compile it, put it in its place, and let `current` lead to it.

        Args:
            archive: a zip file, in base64.

        Raises OSError, and ValueError where it is another package.
        """
        fresh = self.directory / f".new.{self.digest}"
        for unfinished in self.directory.glob(".new.*"):  # of a run that was killed
            shutil.rmtree(unfinished)
        before = os.umask(0o022)
        try:
            fresh.mkdir(parents=True)
            with zipfile.ZipFile(io.BytesIO(base64.b64decode(archive))) as packed:
                packed.extractall(fresh)
            if (found := digest(fresh)) != self.digest:
                raise ValueError(f"The archive has the package {found}, not {self.digest}.")
            for path in fresh.rglob("*"):
                path.chmod(0o755 if path.is_dir() else 0o644)
            # As what it is called in the end: a traceback names the file.
            compileall.compile_dir(fresh, quiet=2, stripdir=str(fresh), prependdir=str(self.path))
            os.sync()  # a host that dies from here on has whole files
            shutil.rmtree(self.path, ignore_errors=True)  # somebody has changed it
            fresh.rename(self.path)
        finally:
            os.umask(before)
            shutil.rmtree(fresh, ignore_errors=True)
        self.lead()

    def others(self) -> Iterator[Path]:
        """Yield what is in the directory besides this package: others, and loose programs."""
        with contextlib.suppress(FileNotFoundError):
            for path in sorted(self.directory.iterdir()):
                if path not in (self.path, self.current) and not path.name.startswith(".new."):
                    yield path

    def used(self) -> str:
        """Return all that names programs: units, commands, and what processes run or hold open."""
        words = [*units()]
        words += [str(path.readlink()) for path in COMMANDS.glob("mlflow-*") if path.is_symlink()]
        for process in PROC.glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (process / "cmdline").read_bytes()
                words.append(command.replace(b"\0", b" ").decode(errors="replace"))
            with contextlib.suppress(OSError):
                for link in (process / "fd").iterdir():
                    with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                        words.append(str(link.readlink()))
        return "\n".join(words)

    def tidy(self, dry: bool = False) -> list[str]:
        """Remove what nothing uses, and return it. Loose programs need one another: all, or none.

        Args:
            dry: only look.
        """
        others, models = [*self.others()], [self.models] if self.models.exists() else []
        if not others and not models:
            return []
        used = self.used()
        packages = [path for path in others if DIGEST.fullmatch(path.name)]
        loose = [path for path in others if path not in packages]
        going = [path for path in packages + models if not named(path, used)]
        # A server of theirs is told the directory alone, and takes its workers' modules from there.
        serves = named(self.directory, used, below=False)
        # And a backup of theirs by its command alone; one of ours is another program by then.
        works = f"python3 -Es {COMMANDS}/mlflow-" in used
        if not serves and not works and not any(named(path, used) for path in loose):
            going += loose
        for path in () if dry else going:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        return [str(path) for path in going]

    def remove(self, dry: bool = False) -> list[str]:
        """Remove all of it, and return that; nothing, while a unit is still there that needs it.

        Args:
            dry: only look.
        """
        used = "\n".join(units())
        both = [path for path in (self.directory, self.models) if path.exists()]
        going = [path for path in both if not named(path, used)]
        for path in () if dry else going:
            shutil.rmtree(path)
        return [str(path) for path in going]
