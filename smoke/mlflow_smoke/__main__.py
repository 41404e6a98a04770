"""Lets `python -m mlflow_smoke` run the command line."""

from mlflow_smoke.cli import main

main()
