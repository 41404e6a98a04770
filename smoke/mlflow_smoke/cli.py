"""The command line: one scenario, one JSON document on stdout, a table for people on stderr."""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from tempfile import TemporaryDirectory
from typing import NoReturn

from mlflow_smoke import apart, interruption, scenario1, scenario2, scenario3
from mlflow_smoke.report import CheckFailedError, Kind, Report

SCENARIOS = {"scenario1": scenario1, "scenario2": scenario2, "scenario3": scenario3}
UNEXPECTED = 1


def main() -> NoReturn:
    """Runs what the command line says, and ends the program."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Runs one smoke.

    Args:
        arguments: the command line, without the program's name.

    Returns:
        The exit code, as `--help` lists them.
    """
    if arguments[:1] == ["apart"]:
        return apart.run([*arguments[1:]])
    options = parser().parse_args(arguments)
    scenario = SCENARIOS[options.scenario]
    report = Report(options.scenario, scenario.subject(options))
    interruption.heed()
    # Libraries print and warn; what matters of it is in the report.
    with (
        TemporaryDirectory(prefix="mlflow-smoke-") as home,
        redirect_stdout(io.StringIO()),
        redirect_stderr(io.StringIO()),
    ):
        # What MLflow and matplotlib keep for a person goes with the smoke; nobody is told of it.
        os.environ |= {"XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home}
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        try:
            scenario.prove(options, report)
        except CheckFailedError:
            pass  # the report knows
        except interruption.InterruptedBySignal as end:
            report.interrupt(signal.Signals(end.number).name, 128 + end.number)
        except Exception as error:
            report.interrupt(f"an error of its own ({error!r})", UNEXPECTED)
            report.trace = traceback.format_exc()
    print(*report.table(), sep="\n", file=sys.stderr)
    if report.failure:
        print(report.failure, file=sys.stderr, flush=True)
    # One line, the last: found even where a terminal has merged the two streams.
    print(*report.handed_on, json.dumps(report.document()), sep="\n")
    return report.exit_code


def parser() -> argparse.ArgumentParser:
    """The command line's arguments and its help."""
    codes = [(0, "everything is as it should be"), (UNEXPECTED, "an error in the smoke itself")]
    codes += [(2, "a wrong command line"), *((kind.exit_code, kind.meaning) for kind in Kind)]
    codes += [(128, "plus its number: a signal that stopped the smoke")]
    top = argparse.ArgumentParser(
        prog="mlflow_smoke",
        description=sys.modules["mlflow_smoke"].__doc__,
        epilog="exit codes:\n" + "\n".join(f"  {code:<4} {text}" for code, text in codes),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    scenarios = top.add_subparsers(dest="scenario", required=True)
    for name, module in SCENARIOS.items():
        text = module.__doc__ or ""
        title = text.partition("\n")[0]
        scenario = scenarios.add_parser(name, help=title, description=text)
        module.add_arguments(scenario)
        scenario.add_argument(
            "--keep", action="store_true", help="leave what the smoke makes, to be looked at"
        )
    return top
