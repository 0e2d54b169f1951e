"""Time ours and the peer in the same process, on the same data, in turn."""

import gc
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Case:
    """One comparison.

    Parameters
    ----------
    name, size, peer_name : str
        What runs, on what, against what: the first columns of the table.
    ours, peer : callable
        Take nothing, do the work that is timed, and return a result.
    accuracy : callable
        Turns our result into the number that must not suffer for speed.
    metric : str
        What that number is.
    peer_accuracy : callable, default=None
        The same for the peer's result; None is `accuracy`.
    repeats : int, default=3
        Paired repetitions. The ratio is the median of the peer's seconds over ours, so that
        above 1 ours is the faster.
    note : str, default=""
        What a reader must know, printed below the table.
    """

    name: str
    size: str
    peer_name: str
    ours: Callable[[], Any]
    peer: Callable[[], Any]
    accuracy: Callable[[Any], float]
    metric: str
    peer_accuracy: Callable[[Any], float] | None = None
    repeats: int = 3
    note: str = ""


def run(case):
    """Run `case`; the ratio is the median over repetitions of peer seconds / our seconds."""
    pairs = []
    for repeat in range(case.repeats):
        first, second = (case.ours, case.peer) if repeat % 2 == 0 else (case.peer, case.ours)
        pairs.append({first: _measure(first), second: _measure(second)})
    ours = [pair[case.ours] for pair in pairs]
    peer = [pair[case.peer] for pair in pairs]
    return {
        "name": case.name,
        "size": case.size,
        "peer": case.peer_name,
        "seconds": statistics.median(m["seconds"] for m in ours),
        "peer_seconds": statistics.median(m["seconds"] for m in peer),
        "ratio": statistics.median(p["seconds"] / o["seconds"] for o, p in zip(ours, peer)),
        "metric": case.metric,
        "accuracy": case.accuracy(ours[-1]["result"]),
        "peer_accuracy": (case.peer_accuracy or case.accuracy)(peer[-1]["result"]),
        "memory_mb": max(m["memory_mb"] for m in ours),
        "peer_memory_mb": max(m["memory_mb"] for m in peer),
        "note": case.note,
    }


def _measure(function):
    gc.collect()
    before = _reset_peak()
    start = time.perf_counter()
    result = function()
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "result": result, "memory_mb": (_status("VmHWM") - before) / 1024}


def _reset_peak():
    """Set the process's peak memory back to its present one (Linux), and return that, in KiB."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(key):
    return int(re.search(rf"{key}:\s+(\d+)", Path("/proc/self/status").read_text())[1])
