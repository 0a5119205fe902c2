"""Whether an exported network keeps the latency that it was searched for: measured, not predicted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sk_deploy.denoiser import Denoiser
from sk_deploy.profile import profile

from .run import load_config, load_genotype, load_table


@dataclass(frozen=True)
class Timed:
    """One network on the provider and at the size of its latency table; milliseconds of the network alone."""

    target_ms: float
    predicted_ms: float
    """By the table."""
    measured_ms: float
    """Median."""
    provider: str
    size_px: tuple[int, int]

    def __str__(self) -> str:
        width, height = self.size_px
        return (
            f"{self.measured_ms:.1f} ms measured for {width}×{height} px on {self.provider}, "
            f"{self.predicted_ms:.1f} ms predicted, target {self.target_ms:.1f} ms "
            f"({self.measured_ms / self.target_ms - 1:+.0%})"
        )


def time_against_target(run: Path, model: Path) -> Timed | None:
    """Time `model`, exported from `run`; None for a run without a target in milliseconds.

    Raises ProviderError where the provider of the run's table is not on this machine.
    """
    table, target_ms = load_table(run), load_config(run).structure.target_latency_ms
    if table is None or target_ms is None:
        return None
    provider = table.facts["provider"]
    measured = profile(Denoiser.from_file(model, provider, max(table.size_px)), *table.size_px)
    return Timed(
        target_ms,
        load_genotype(run)["latency_ms"],
        measured.network.p50_ms,
        measured.provider,
        table.size_px,
    )
