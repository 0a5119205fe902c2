"""Decoding in a worker process, one file ahead: a crash on damaged bytes costs one file, not the batch."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from .errors import RawError
from .raw import RawImage, read_raw

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Decoded:
    """A raw file's content, or why there is none."""

    raw: RawImage | RawError
    seconds: float
    """That the worker took."""


def decode_ahead(paths: Sequence[Path], pattern: str | None = None) -> Iterator[Decoded]:
    """Decode files in order, each while the caller still works on the one before.

    `pattern` is the phase of plain mosaics. A file that cannot be read, or that kills the worker, gives its
    error.
    """
    worker = _Worker(pattern)
    try:
        ahead = worker.start(paths[0]) if paths else None
        for index, path in enumerate(paths):
            assert ahead is not None
            decoded = worker.finish(path, ahead)
            ahead = worker.start(paths[index + 1]) if index + 1 < len(paths) else None
            yield decoded
    finally:
        worker.stop()


class _Worker:
    """One process, replaced when it dies. It has one file at a time, so it is known which one it died of."""

    def __init__(self, pattern: str | None) -> None:
        self.pattern = pattern
        self.pool = _new_pool()

    def start(self, path: Path) -> Future[Decoded]:
        try:
            return self.pool.submit(_decode, path, self.pattern)
        except BrokenProcessPool:  # it died idle
            self.pool = _new_pool()
            return self.pool.submit(_decode, path, self.pattern)

    def finish(self, path: Path, future: Future[Decoded]) -> Decoded:
        try:
            return future.result()
        except BrokenProcessPool:
            self.pool = _new_pool()
            return Decoded(RawError(f"{path.name}: the decoder crashed on it: damaged, or too large"), 0.0)
        except Exception as error:  # the result could not be handed over, say for want of memory
            log.debug("%s", path, exc_info=True)
            return Decoded(RawError(f"{path.name}: cannot be decoded ({type(error).__name__}: {error})"), 0.0)

    def stop(self) -> None:
        # Waiting for the file at hand: a pool that is left to itself complains when Python exits under it.
        self.pool.shutdown(cancel_futures=True)


def _new_pool() -> ProcessPoolExecutor:
    # Not forked: ONNX Runtime's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, context, initializer=_leave_interrupts_to_the_parent)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _decode(path: Path, pattern: str | None) -> Decoded:
    started = time.perf_counter()
    raw: RawImage | RawError
    try:
        raw = read_raw(path, pattern)
    except RawError as error:
        raw = error
    except Exception as error:  # bytes that nobody vouches for: whatever they break, it is this file's fault
        log.debug("%s", path, exc_info=True)
        raw = RawError(f"{path.name}: cannot be decoded ({type(error).__name__}: {error}): damaged?")
    return Decoded(raw, time.perf_counter() - started)
