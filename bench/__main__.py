"""The command line: measurements by name, or all of them and their results written down."""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
import sys
from pathlib import Path

import bench
from bench import _report
from bench._figures import Figure
from bench._hosts import BenchError

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Measure, and print one JSON line a figure; 1 when something could not be measured.

    A figure beyond its limit is a result like any other: its line and the table say so.
    """
    names = [module.name for module in pkgutil.iter_modules(bench.__path__)]
    names = sorted(name for name in names if name.isidentifier() and not name.startswith("_"))
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure; without a name everything, and write it to bench/results/.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(names)}")
    chosen = parser.parse_args().names
    if unknown := sorted(set(chosen) - set(names)):
        parser.error(f"no measurement {unknown[0]!r}; there are: {', '.join(names)}")

    figures: list[Figure] = []
    try:
        for name in chosen or names:
            figures += importlib.import_module(f"bench.{name}").measure()
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    if not chosen:
        _report.write(RESULTS, figures)
    print(_report.table(figures), file=sys.stderr)
    for figure in figures:
        print(json.dumps(figure.line()))
    return 0


sys.exit(main())
