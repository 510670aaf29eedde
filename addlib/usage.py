"""What a process has used of its machine."""

from __future__ import annotations

import sys


def used() -> dict[str, float | int]:
    """Processor time and memory of this process and the finished ones that it started.

    Returns:
        ``processor_seconds`` of all of them together, and ``peak_memory_mib``, the largest resident
        size of any. Empty on Windows, which doesn't say.
    """
    if sys.platform == "win32":
        return {}
    import resource  # not on Windows

    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = sum(part.ru_utime + part.ru_stime for part in (own, children))
    unit = 2**20 if sys.platform == "darwin" else 2**10
    peak = max(own.ru_maxrss, children.ru_maxrss) / unit
    return {"processor_seconds": round(seconds, 1), "peak_memory_mib": round(peak)}
