"""What to do about what somebody else's program said when it failed."""

from __future__ import annotations

import re
from collections.abc import Mapping


def remedy(said: str, table: Mapping[str, str]) -> str:
    """Return what to do, or '' where that is not known.

    Args:
        said: the program's own words.
        table: by a regular expression for such words, the remedy. The first that fits counts.
    """
    return next((words for pattern, words in table.items() if re.search(pattern, said)), "")
