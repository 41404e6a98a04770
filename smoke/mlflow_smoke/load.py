"""Run the smoke that standard input brings: its first line is the packed program in base64.

What follows there is the program's own input: secrets that no argument, file or variable of a
process would keep to itself.
"""

import base64
import sys
import tempfile

with tempfile.NamedTemporaryFile(prefix="mlflow-smoke-", suffix=".pyz") as packed:
    packed.write(base64.b64decode(sys.stdin.readline()))
    packed.flush()
    sys.path.insert(0, packed.name)
    from mlflow_smoke import cli

    cli.main()
