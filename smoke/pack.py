"""Packs the smoke into one file, to be run where MLflow is, and prints that file's path.

With --text it writes nothing, and prints the file itself, in base64, for a program that reads it.
"""

import base64
import io
import sys
import zipapp
from pathlib import Path

SMOKE = Path(__file__).resolve().parent

packed = io.BytesIO()
zipapp.create_archive(
    SMOKE,
    packed,
    main="mlflow_smoke.cli:main",
    filter=lambda path: path.parts[0] == "mlflow_smoke" and path.suffix == ".py",
    compressed=True,
)
if "--text" in sys.argv:
    print(base64.b64encode(packed.getvalue()).decode())
else:
    file = SMOKE.parent / ".cache/mlflow_smoke.pyz"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(packed.getvalue())
    print(file)
