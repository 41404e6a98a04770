"""Where an error sends a person: the inventory's variables, as she would type it."""

from pathlib import Path

import pytest

from plugins.lookup.group_vars import LookupModule


@pytest.mark.parametrize(
    ("inventory", "said"),
    [
        ("inventories/mine", "inventories/mine/group_vars"),
        (None, "your inventory/group_vars"),  # -i 'host,'
    ],
)
def test_where_variables_are_set(
    inventory: str | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    there = {"inventory_dir": inventory and str(tmp_path / inventory)}
    assert LookupModule().run([], variables=there) == [said]
    assert LookupModule().run([], variables={}) == ["your inventory/group_vars"]
