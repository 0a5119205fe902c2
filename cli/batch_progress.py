"""The progress of a batch: on stderr, only on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sk_deploy.batch import Result
from sk_deploy.inputs import Job


class BatchProgress:
    """One display for all files: how many have ended, megapixels a second, time left.

    Files differ in size, and their pixels are known once they are decoded: time left goes by their bytes.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        # Results printed meanwhile appear above it, unless stdout leads elsewhere.
        self.bar = Progress(
            TextColumn("{task.fields[files]} files"),
            BarColumn(24),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
            disable=not sys.stderr.isatty(),
        )
        self._ahead = {job.source: _size(job.source) for job in jobs}
        self._files, self._ended = len(jobs), 0
        self._done_bytes, self._done_mp = 0, 0.0
        self._started = time.monotonic()
        self._task = self.bar.add_task("", total=sum(self._ahead.values()), files=f"0/{self._files}", rate="")

    def advance(self, job: Job, share: float, megapixels: float) -> None:
        """`share` of a file's megapixels is denoised."""
        done_mp = self._done_mp + share * megapixels
        done_bytes = self._done_bytes + share * self._ahead.get(job.source, 0)
        if share == 1 and job.source in self._ahead:
            self._done_mp, self._done_bytes = done_mp, self._done_bytes + self._ahead.pop(job.source)
        rate = f"{done_mp / (time.monotonic() - self._started):.2f} MP/s"
        self.bar.update(self._task, description=job.source.name, completed=done_bytes, rate=rate)

    def end(self, result: Result) -> None:
        """A file has ended; one that was not denoised is none of the work."""
        self._ended += 1
        self._ahead.pop(result.source, 0)
        total = self._done_bytes + sum(self._ahead.values())
        self.bar.update(self._task, files=f"{self._ended}/{self._files}", total=total)


@contextmanager
def batch_progress(jobs: Sequence[Job]) -> Iterator[BatchProgress]:
    """The display, for as long as the batch runs."""
    progress = BatchProgress(jobs)
    with progress.bar:
        yield progress


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
