"""From a searched run to fine-tuned weights: whatever is still missing."""

from __future__ import annotations

from pathlib import Path

from sk_deploy.errors import ConfigError

from .distil import distil, supernet_digest
from .finetune import finetune
from .record import read_record
from .run import load_genotype
from .training import Report


def finish_stages(run: Path, report: Report) -> None:
    """Distil and fine-tune, or go on with that. ConfigError when the search went on after distilling."""
    if not (run / "genotype.json").is_file():
        distil(run)
    genotype = load_genotype(run)
    if "adopted" not in genotype and genotype.get("supernet") != supernet_digest(run):
        raise ConfigError(
            f"{run} was searched on after it was distilled: move {run / 'genotype.json'} and "
            f"{run / 'finetuned'} away, then try again"
        )
    record = read_record(run)
    if not record.finetune.finished:
        finetune(run, resume=(run / "finetuned" / "last.pt").is_file(), report=report)
    if record.ensembled.rows and not record.ensembled.finished:
        finetune(run, teacher="self-ensemble", resume=True, report=report)
