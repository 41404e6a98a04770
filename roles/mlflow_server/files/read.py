"""Print the content of those of the files named as arguments that are there, as JSON by path."""

import json
import sys
from pathlib import Path

there = [path for path in sys.argv[1:] if Path(path).is_file()]
print(json.dumps({path: Path(path).read_bytes().decode(errors="replace") for path in there}))
