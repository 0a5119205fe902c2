"""What a stage of training logs: metrics.jsonl, and the same figures for TensorBoard.

Written at once and without a thread, so that a full disk is one error in the caller's hands.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from io import FileIO
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter


class Journal:
    """Appends records to folder/metrics.jsonl. Raises OSError where the disk refuses.

    kept_bytes: what lies beyond in the file goes, because training continues from a checkpoint that was
    written when the file was as long; step: TensorBoard forgets its events from there on.
    """

    def __init__(self, folder: Path, kept_bytes: int, step: int) -> None:
        self._metrics = _open(folder / "metrics.jsonl")
        self._metrics.truncate(min(kept_bytes, self.bytes))
        events = folder / "tensorboard"
        events.mkdir(exist_ok=True)
        self._events = _open(events / f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}")
        self._write_event(file_version="brain.Event:2")
        self._write_event(step=step, session_log=SessionLog(status=SessionLog.START))

    @property
    def bytes(self) -> int:
        """Length of metrics.jsonl."""
        return os.fstat(self._metrics.fileno()).st_size

    def write(self, record: dict[str, Any]) -> None:
        """Append one record with a "kind" and a "step"; TensorBoard gets its numbers."""
        self._metrics.write((json.dumps(record) + "\n").encode())
        numbers = {
            f"{record['kind']}/{name}": value
            for name, value in record.items()
            if isinstance(value, int | float) and name not in ("step", "steps")
        }
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in numbers.items()]
        self._write_event(step=record["step"], summary=Summary(value=values))

    def close(self) -> None:
        self._metrics.close()
        self._events.close()

    def _write_event(self, **facts: Any) -> None:
        RecordWriter(self._events).write(Event(wall_time=time.time(), **facts).SerializeToString())


class _WholeWrites(FileIO):
    """Unbuffered; an error names the file, and a write that a full disk cuts short is one."""

    def write(self, data: bytes) -> int:
        try:
            written = super().write(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self.name)) from error
        if written < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.name))
        return written


def _open(path: Path) -> FileIO:
    return _WholeWrites(path, "a")
