"""src/mlflow_ops/view.py: which way to a directory root goes.

That no link below it leads anywhere is seen on hosts: test_backup.py and test_promote.py.
"""

import os
from pathlib import Path

import pytest

from mlflow_ops import view


def reached(path: Path) -> Path:
    """Return where a path was found to lead."""
    descriptor: int = view.opened(path)
    try:
        return Path(f"/proc/self/fd/{descriptor}").readlink()
    finally:
        os.close(descriptor)


def test_who_owns_a_directory_may_link_to_it(tmp_path: Path) -> None:
    (tmp_path / "disk/store").mkdir(parents=True)
    (tmp_path / "whole").symlink_to(tmp_path / "disk")
    (tmp_path / "disk/relative").symlink_to("../disk/./store")
    for path in ("disk/store", "whole/store", "whole/relative", "disk/../whole/relative"):
        assert reached(tmp_path / path) == (tmp_path / "disk/store").resolve()


def test_what_belongs_to_others_is_refused(tmp_path: Path) -> None:
    """Of a link of somebody else's: root may test it, others have root's directories for it."""
    link = tmp_path / "store"
    link.symlink_to("/etc")
    if os.geteuid() == 0:
        os.lchown(link, 65534, 65534)
    owner = link.lstat().st_uid
    with pytest.raises(view.Refused, match=f"store in it is a link of user {owner} to what belong"):
        view.opened(link)
    (tmp_path / "middle").symlink_to(link)
    with pytest.raises(view.Refused):
        view.opened(tmp_path / "middle/ssl")


def test_ways_that_end_nowhere(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(view.Refused, match="too many links"):
        view.opened(tmp_path / "circle")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        view.opened(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        view.opened(tmp_path / "nothing/store")


def test_a_way_is_root_s_alone_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever owns what leads there counts, not only whoever owns what is there."""
    (tmp_path / "link").symlink_to("/usr")
    assert view.root_alone(tmp_path / "link/bin")
    if os.geteuid() == 0:
        os.chown(tmp_path, 65534, 65534)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert view.root_alone(Path("/usr/bin/env"))
    assert not view.root_alone(tmp_path / "link/bin") and not view.root_alone(tmp_path / "new")
