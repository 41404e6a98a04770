"""What a measurement yields, and how it comes about on a machine that is never quiet."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Samples = dict[str, list[float]]


@dataclass(frozen=True)
class Figure:
    """One measured value and the limit that it has to keep.

    Attributes:
        figure: what it is, measurement first: `scenario1: role / uv script`.
        value: the result, in `unit`.
        limit: the worst value that is good enough, in `unit`.
        better: which way is better.
        samples: what the value was computed from, each way's own measurements.
        sample_unit: the unit of the samples.
    """

    figure: str
    value: float
    unit: str
    limit: float
    better: Literal["lower", "higher"]
    samples: Samples
    sample_unit: str = "s"

    @property
    def used(self) -> float:
        """How much of its limit the figure uses up; up to 1 is good, either way."""
        return self.value / self.limit if self.better == "lower" else self.limit / self.value

    def line(self) -> dict[str, Any]:
        """The figure as programs read it."""
        keys = ("figure", "value", "unit", "limit", "better")
        return {key: getattr(self, key) for key in keys}


def say(words: str) -> None:
    """Tell the person what is going on; standard output is for the figures."""
    print(f"bench: {words}", file=sys.stderr, flush=True)


def timed(action: Callable[[], object]) -> float:
    """Return the wall time of an action in seconds."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def in_turn(rounds: int, ways: Mapping[str, Callable[[], float]]) -> Samples:
    """Measure several ways in turn, so that whatever disturbs the machine disturbs them all.

    Args:
        rounds: how often.
        ways: for each name what measures it once.
    """
    samples: Samples = {name: [] for name in ways}
    for number in range(rounds):
        for name, measure in ways.items():
            samples[name].append(round(measure(), 4))
            say(f"{name}: {samples[name][-1]:.4g} ({number + 1} of {rounds})")
    return samples


def ratio(
    figure: str,
    samples: Samples,
    ways: tuple[str, str],
    limit: float,
    sample_unit: str = "s",
    better: Literal["lower", "higher"] = "lower",
) -> Figure:
    """Compare the medians of two ways that were measured in turn.

    The median, since on a busy machine the best of few is one way's luck.

    Args:
        figure: what it is.
        samples: of `in_turn`.
        ways: names of ours and of theirs.
        limit: the worst ratio that is good enough.
        sample_unit: the unit of the samples.
        better: which way is better.
    """
    ours, theirs = (statistics.median(samples[way]) for way in ways)
    pair = {way: samples[way] for way in ways}
    return Figure(figure, round(ours / theirs, 3), "ratio", limit, better, pair, sample_unit)
