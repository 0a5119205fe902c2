"""Progress on stderr, and none where stderr is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[str, float], None]]:
    """A bar over `total` files; call it with what is worked on and the number of files done, in fractions."""
    if not sys.stderr.isatty():
        yield lambda description, done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    # Results printed meanwhile appear above the bar, unless stdout leads elsewhere and is none of the bar's.
    with Progress(
        *columns,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=sys.stdout.isatty(),
    ) as bar:
        task = bar.add_task("", total=total)
        yield lambda description, done: bar.update(task, description=description, completed=done)
