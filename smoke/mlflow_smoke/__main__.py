"""Lets `python -m mlflow_smoke` run the command line."""

import sys

from mlflow_smoke.cli import main

sys.exit(main())
