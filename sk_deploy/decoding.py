"""Decoding in a worker process, one file ahead: what damaged bytes do to it costs one file, not the batch.

LibRaw and the libraries of other formats parse bytes that nobody vouches for. A worker that crashes, runs out
of memory or hangs is replaced, and the file that it had gets the blame. It counts as hung after 8 s, plus 2 s
for each megabyte of the file (`time_limit_s`).
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from .errors import RawError
from .freed_memory import return_freed_memory
from .raw import RawImage, read_raw
from .transfer import receive, send

log = logging.getLogger(__name__)

LEAST_LIMIT_S = 8
"""For a file of any size."""
LIMIT_S_PER_MB = 2
"""Twenty times what the slowest formats need: room for busy machines and network drives."""
_STARTING_LIMIT_S = 120
"""For Python and its libraries to load."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """A raw file's content, or why there is none."""

    raw: RawImage | RawError
    seconds: float
    """That the worker took."""


def time_limit_s(path: Path) -> int:
    """Seconds after which a file's decoder counts as hung."""
    try:
        size = path.stat().st_size
    except OSError:
        size = 0
    return LEAST_LIMIT_S + LIMIT_S_PER_MB * size // 1_000_000


def decode_ahead(
    paths: Sequence[Path],
    pattern: str | None = None,
    levels: tuple[float, float] | None = None,
    size: tuple[int, int] | None = None,
) -> Generator[Decoded, None, None]:
    """Decode files in order, each while the caller still works on the one before.

    `pattern`, `levels` and `size` are those of plain mosaics (`raw.read_raw`). A file that cannot be read, or
    that crashes, starves or hangs the worker, gives its error.
    """
    worker, waiting = _Worker((pattern, levels, size)), ThreadPoolExecutor(1)
    try:
        ahead: Future[Decoded] | None = waiting.submit(worker.decode, paths[0]) if paths else None
        for following in (*paths[1:], None):
            if ahead is None:
                return
            decoded = ahead.result()
            ahead = waiting.submit(worker.decode, following) if following else None
            if ahead is None:
                worker.end()  # the last file needs its memory no more
            yield decoded
    finally:
        worker.stop()
        waiting.shutdown()
        worker.end()


_Stated = tuple[str | None, tuple[float, float] | None, tuple[int, int] | None]
"""Phase, levels and size of plain mosaics."""


class _Worker:
    """One process, started when it is needed. It has one file at a time, so it is known which it died of."""

    def __init__(self, stated: _Stated) -> None:
        self.stated = stated
        self._stopped = False
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None

    def decode(self, path: Path) -> Decoded:
        """Have the process decode a file; called from one thread."""
        try:
            connection = self._running()
            limit_s = time_limit_s(path)
            connection.send((path, self.stated, limit_s))
            if _answers(connection, limit_s):
                answer: Decoded = receive(connection)
                return answer
            reason = f"the decoder made nothing of it in {limit_s} s and was stopped: damaged?"
        except RawError as error:
            self.end()
            return Decoded(error, 0.0)
        except (EOFError, OSError):  # the process is gone
            reason = f"the decoder crashed on it{self._cause()}: damaged, or too large"
        except Exception as error:  # the answer cannot be taken over, say for want of memory
            log.debug("%s", path, exc_info=True)
            reason = f"cannot be decoded ({type(error).__name__}: {error})"
        self.end()
        return Decoded(RawError(f"{path.name}: {reason}"), 0.0)

    def stop(self) -> None:
        """Kill the process, whatever it is doing, for good. `decode` in its own thread then returns."""
        self._stopped = True
        if self._process is not None:
            self._process.kill()

    def _running(self) -> Connection:
        """The connection to a process that waits for a file."""
        if self._process is None or self._connection is None or not self._process.is_alive():
            self.end()
            # Not forked: ONNX Runtime's threads do not survive a fork.
            context = multiprocessing.get_context("spawn")
            self._connection, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs,), daemon=True, name="skdn decoder")
            process.start()
            self._process = process
            theirs.close()  # so that the process's end is the end of the connection
            try:
                if self._stopped or not _answers(self._connection, _STARTING_LIMIT_S):
                    raise EOFError
                self._connection.recv()
            except (EOFError, OSError):
                raise RawError(
                    "the decoder process cannot be started: not enough memory or processes?"
                ) from None
        return self._connection

    def _cause(self) -> str:
        """The signal that ended the process, in brackets, where that is how it ended."""
        if self._process is None:
            return ""
        self._process.join(1)
        code = self._process.exitcode or 0
        return f" ({signal.Signals(-code).name})" if code < 0 else ""

    def end(self) -> None:
        """Clear the process away."""
        process, connection, self._process, self._connection = self._process, self._connection, None, None
        if process is not None:
            process.kill()
            process.join()
        if connection is not None:
            connection.close()


def _answers(connection: Connection, limit_s: int) -> bool:
    """Whether there is something to receive, or an end, within the limit.

    In waits of a second: a machine or process that is suspended meanwhile does not make the decoder late.
    """
    return any(connection.poll(1) for _ in range(limit_s))


def _serve(connection: Connection) -> None:
    """The process: decode one file after the other until the connection ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers Ctrl-C
    _volunteer_for_the_out_of_memory_killer()
    with suppress(EOFError, OSError):  # the parent is gone
        connection.send("ready")
        _silence()
        while True:
            path, stated, limit_s = connection.recv()
            if hasattr(signal, "setitimer"):  # not on Windows
                # A parent that is killed cannot stop a decoder that hangs: four limits of computing end it.
                signal.setitimer(signal.ITIMER_PROF, 4 * limit_s)
            send(connection, _decode(path, stated))
            return_freed_memory()


def _volunteer_for_the_out_of_memory_killer() -> None:
    """Linux then ends this process first, and the batch goes on."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _silence() -> None:
    """LibRaw and other libraries print what they think of damaged files; our error says it in one line."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)


def _decode(path: Path, stated: _Stated) -> Decoded:
    started = time.perf_counter()
    raw: RawImage | RawError
    try:
        raw = read_raw(path, *stated)
    except RawError as error:
        raw = error
    except MemoryError:
        raw = RawError(f"{path.name}: not enough memory to decode it: damaged, or too large")
    except Exception as error:  # bytes that nobody vouches for: whatever they break, it is this file's fault
        reason = " ".join(str(error).split())
        raw = RawError(f"{path.name}: cannot be decoded ({type(error).__name__}: {reason}): damaged?")
    return Decoded(raw, time.perf_counter() - started)
