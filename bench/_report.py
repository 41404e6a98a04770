"""Results for people and programs: a table, a plot, and everything as JSON."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from statistics import median
from xml.sax.saxutils import escape

from bench._figures import Figure

# The plot: pixels, and where in each row the limit is.
ROW, LABEL, BAR, LIMIT = 34, 330, 360, 300
GOOD, BAD, INK, GRID = "#2a7f62", "#c0392b", "#24292f", "#d0d7de"


def write(folder: Path, figures: Sequence[Figure]) -> None:
    """Write results.json, README.md with the table, and value-against-limit.svg."""
    folder.mkdir(exist_ok=True)
    here = machine()
    measured = date.today().isoformat()
    document = {
        "measured": measured,
        "machine": here,
        "figures": [
            figure.line() | {"samples": figure.samples, "sample_unit": figure.sample_unit}
            for figure in figures
        ],
    }
    (folder / "results.json").write_text(json.dumps(document, indent=2) + "\n")
    (folder / "value-against-limit.svg").write_text(plot(figures))
    described = "\n".join(f"- {name}: {value}" for name, value in here.items())
    (folder / "README.md").write_text(
        f"# Measured {measured}\n\n"
        f"{table(figures)}\n\n"
        "![Each value against its limit](value-against-limit.svg)\n\n"
        f"The machine:\n\n{described}\n\n"
        "Written by `make bench`; every single measurement is in [results.json](results.json).\n"
    )


def table(figures: Sequence[Figure]) -> str:
    """The figures as a Markdown table, each with the samples that it was computed from."""
    rows = [("figure", "value", "limit", "", "measured: median (best to worst)")]
    for figure in figures:
        unit = "" if figure.unit == "ratio" else f" {figure.unit}"
        best, worst = (min, max) if figure.better == "lower" else (max, min)
        rows.append(
            (
                figure.figure,
                f"{figure.value:.3g}{unit}",
                f"{'at most' if figure.better == 'lower' else 'at least'} {figure.limit:g}{unit}",
                "kept" if figure.used <= 1 else "**missed**",
                "; ".join(
                    f"{way} {median(values):.3g} ({best(values):.3g} to {worst(values):.3g})"
                    for way, values in figure.samples.items()
                )
                + f" {figure.sample_unit}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    return "\n".join(
        [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]
    )


def plot(figures: Sequence[Figure]) -> str:
    """The figures as an SVG: a bar for what each uses of its limit, and a line where that ends."""
    width, height = LABEL + BAR + 130, ROW * len(figures) + 56
    limit = LABEL + LIMIT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="13" fill="{INK}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{limit}" y="22" text-anchor="middle">limit</text>',
    ]
    for number, figure in enumerate(figures):
        y = 36 + ROW * number
        bar = min(figure.used * LIMIT, BAR)
        colour = GOOD if figure.used <= 1 else BAD
        unit = "" if figure.unit == "ratio" else f" {figure.unit}"
        value = f"{figure.value:.3g} of {figure.limit:g}{unit}"
        parts += [
            f'<text x="{LABEL - 10}" y="{y + 16}" text-anchor="end">{escape(figure.figure)}</text>',
            f'<rect x="{LABEL}" y="{y}" width="{bar:.1f}" height="22" fill="{colour}" rx="2"/>',
            f'<text x="{max(LABEL + bar, limit) + 8:.1f}" y="{y + 16}">{escape(value)}</text>',
        ]
    for tick in (0, 0.5, 1):
        x, colour = LABEL + tick * LIMIT, INK if tick == 1 else GRID
        parts.append(f'<path d="M{x:.0f} 30V{height - 20}" stroke="{colour}"/>')
    note = "share of the limit that is used; shorter is better"
    parts.append(f'<text x="{LABEL}" y="{height - 6}" font-size="11">{note}</text>')
    return "\n".join([*parts, "</svg>", ""])


def machine() -> dict[str, str]:
    """What was measured on, without anything that names this one machine."""
    models = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.0f} GiB",
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release()["PRETTY_NAME"],
        "Docker engine": docker_version(),
        "Python": platform.python_version(),
    }


def docker_version() -> str:
    """The version of the engine that the lab runs on."""
    form = ["docker", "version", "--format", "{{.Server.Version}}"]
    done = subprocess.run(form, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown: it answers to root alone"
