"""How jobs share the cores of a machine: how many threads each gets, and which starts first.

A second thread helps a training little: on two cores, a step of the main model takes 47 ms on two
threads, and 61 ms on one thread with another such job beside it. Two jobs of one thread each
therefore do one and a half times the work of one job with two.
"""

from __future__ import annotations

from collections.abc import Mapping

from workflow.chapters import Chapter

TRAINING_THREADS = 2
"""Threads that a training can use."""

FIRST = 3_000_000
"""Priority of the first chapter, which the early site needs."""

TRAINING = 2_000_000
"""Priority of a training; the seconds of the chapters that wait for it are added."""

EARLY = 1_000_000
"""Priority of the second chapter and the live page, which the next early site shows."""


def threads_for(wanted: int, cores: int | None) -> int:
    """Threads of a job: what it can use, but at most half of the cores, so that two fit.

    Args:
        wanted: threads that it can use. cores: of the machine; None on a cluster, which has many.
    """
    return wanted if cores is None else min(wanted, max(1, cores // 2))


def priorities(known: Mapping[str, Chapter]) -> dict[str, int]:
    """The order in which jobs start where several could: the highest number first.

    The first chapter, then trainings, then the second chapter, then the others, longest first: a
    long one that starts last would end alone.

    Args:
        known: all chapters by name, in the order of the book.

    Returns:
        A number for each chapter and each training.
    """
    order = {name: chapter.seconds for name, chapter in known.items()}
    order |= dict(zip(known, (FIRST, EARLY), strict=False))
    for chapter in known.values():
        for training in chapter.weights:
            order[training] = order.get(training, TRAINING) + chapter.seconds
    return order
