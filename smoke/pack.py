"""Packs the smoke into one file, to be run where MLflow is, and prints that file's path.

With --text it prints the file itself, in base64, for those who send it to a program's input.
"""

import base64
import sys
import tempfile
import zipapp
from pathlib import Path

SMOKE = Path(__file__).resolve().parent
CACHE = SMOKE.parent / ".cache"

CACHE.mkdir(exist_ok=True)
# Hosts are proved side by side: none may see a file that another is still writing.
with tempfile.NamedTemporaryFile(dir=CACHE, delete=False) as file:
    zipapp.create_archive(
        SMOKE,
        file.name,
        main="mlflow_smoke.cli:main",
        filter=lambda path: path.parts[0] == "mlflow_smoke" and path.suffix == ".py",
        compressed=True,
    )
packed = Path(file.name).replace(CACHE / "mlflow_smoke.pyz")
print(base64.b64encode(packed.read_bytes()).decode() if "--text" in sys.argv else packed)
