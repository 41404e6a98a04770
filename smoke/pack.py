"""Packs the smoke into one file, to be run where MLflow is, and prints that file's path."""

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
    )
Path(file.name).replace(CACHE / "mlflow_smoke.pyz")
print(CACHE / "mlflow_smoke.pyz")
