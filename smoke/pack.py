"""Packs the smoke into one file, to be run where MLflow is, and prints that file's path.

With --text it writes nothing, and prints the file itself, in base64, for a program that reads it.
"""

import base64
import io
import sys
import zipapp
from pathlib import Path

SMOKE = Path(__file__).resolve().parent


def packed() -> bytes:
    """The file's content."""
    content = io.BytesIO()
    zipapp.create_archive(
        SMOKE,
        content,
        main="mlflow_smoke.cli:main",
        filter=lambda path: path.parts[0] == "mlflow_smoke" and path.suffix == ".py",
        compressed=True,
    )
    return content.getvalue()


def text() -> str:
    """The same as one line, which mlflow_smoke/load.py reads."""
    return base64.b64encode(packed()).decode()


def main() -> None:
    """Does what the command line says."""
    if "--text" in sys.argv:
        print(text())
        return
    file = SMOKE.parent / ".cache/mlflow_smoke.pyz"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(packed())
    print(file)


if __name__ == "__main__":
    main()
