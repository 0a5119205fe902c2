"""The progress line of the training verbs: on stderr, only on a terminal, from one of several processes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sk_search.parallel import is_main

_LABELS = {
    "psnr_db": "PSNR {:.2f} dB",
    "loss": "loss {:.2f}",
    "entropy": "entropy {:.2f}",
    "temperature": "τ {:.2f}",
    "gmacs_per_mp": "{:.2f} GMAC/MP",
    "patches_per_s": "{:.0f} patches/s",
}


@contextmanager
def training_progress() -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yields what a trainer calls with each record of metrics.jsonl."""
    facts: dict[str, float] = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(24),
        TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[facts]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    silent = not (console.is_terminal and is_main())
    with Progress(*columns, console=console, disable=silent) as progress, _log_lines():
        task = progress.add_task("training", total=None, facts="", visible=False)

        def show(record: dict[str, Any]) -> None:
            if "macs_per_mp" in record:
                facts["gmacs_per_mp"] = record["macs_per_mp"] / 1e9
            facts.update({name: record[name] for name in _LABELS if name in record})
            text = " · ".join(label.format(facts[name]) for name, label in _LABELS.items() if name in facts)
            progress.update(
                task,
                description=record["stage"],
                completed=record["step"],
                total=record["steps"],
                facts=text,
                visible=True,
            )

        yield show


@contextmanager
def _log_lines() -> Iterator[None]:
    """What training has to say, a line each on stderr."""
    logger, lines = logging.getLogger("sk_search"), logging.StreamHandler()
    level = logger.level
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(lines)
        logger.setLevel(level)
