"""Tiles in lanes: several at a time, each in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from threading import Event
from typing import TypeVar

T = TypeVar("T")


def in_lanes(
    work: Callable[[T], None],
    tiles: Sequence[T],
    lanes: int,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Call `work` on every tile from as many threads as `lanes`; `progress` is told the share that is done.

    The first error is raised; after it, or Ctrl-C, what has not begun does not begin.
    """
    failed = Event()

    def attempt(tile: T) -> None:
        if failed.is_set():  # the caller may not have woken up to cancel this one
            return
        try:
            work(tile)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(lanes) as pool:
        running = [pool.submit(attempt, tile) for tile in tiles]
        try:
            for done, tile in enumerate(as_completed(running), 1):
                tile.result()
                if progress is not None and not failed.is_set():
                    progress(done / len(running))
        finally:
            pool.shutdown(cancel_futures=True)
