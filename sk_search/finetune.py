"""`skdn finetune`: train the distilled network on, its structure now fixed, with or without a teacher.

RUN/finetuned starts from the distilled network and learns from the clean mosaics, and from the supernet or
another run's network where that is asked for. RUN/ensembled starts from the fine-tuned network and learns
from its self-ensemble.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sk_deploy.errors import ConfigError

from . import parallel
from .checkpoint import settings_of
from .config import RunConfig, TrainConfig
from .data import load_data, validation_set
from .distil import load_network
from .record import StageRecord, read_object, read_record
from .run import load_config, write_json
from .search import pick_device
from .teachers import Teacher, ensemble_teacher, run_teacher, supernet_teacher
from .training import Report, Trainer
from .validation import Pairs


@dataclass(frozen=True)
class EnsembleGain:
    """PSNR on the held-out pairs: what eight passes gained, and what one pass keeps of it."""

    single_db: float
    """The fine-tuned network."""
    ensemble_db: float
    """Its self-ensemble, the teacher."""
    learnt_db: float
    """One pass of the network that learnt from it."""

    def __str__(self) -> str:
        gain, kept = self.ensemble_db - self.single_db, self.learnt_db - self.single_db
        share = f" ({kept / gain:.0%})" if gain > 0 else ""
        return f"one pass keeps {kept:+.3f} of the self-ensemble's {gain:+.3f} dB{share}"


def finetune(
    run: Path,
    *,
    teacher: str | None = None,
    steps: int | None = None,
    learning_rate: float | None = None,
    patch_px: int | None = None,
    resume: bool = False,
    report: Report = lambda record: None,
) -> Path:
    """Fine-tune, or continue; return the folder, run/finetuned or, for the self-ensemble, run/ensembled.

    teacher: "none", "supernet", "self-ensemble" or the folder of another run; None takes the run's
    configuration. steps, learning_rate, patch_px (side of a patch in sensor pixels): None takes the
    configuration's; with `resume` another number of steps lengthens or shortens the schedule from there on.
    Raises ConfigError when the run has not come far enough, when trained weights would be lost, when the
    network cannot take such patches, or where `resume` would go on with another choice than steps.
    """
    config = load_config(run)
    if teacher not in (None, "none", "supernet", "self-ensemble"):
        teacher = str(Path(teacher).resolve())
    from_ensemble = teacher == "self-ensemble"
    folder = run / ("ensembled" if from_ensemble else "finetuned")
    if not from_ensemble and (run / "ensembled").exists():
        raise ConfigError(f"{run / 'ensembled'} was made of these weights: move it away to train them on")
    options = {"teacher": teacher, "learning_rate": learning_rate, "patch_px": patch_px}
    chosen = {name: value for name, value in options.items() if value is not None}
    begun = _begun(folder, chosen) if resume else _fresh(folder, config.finetune, chosen)
    train_config = replace(begun, steps=steps or begun.steps)
    with parallel.joined():
        device = pick_device()
        net = load_network(run, "finetuned" if from_ensemble else "distilled").to(device)
        mosaic = replace(config.mosaic, patch_px=train_config.patch_px or config.mosaic.patch_px)
        # The structure is fixed by now: what it was learnt from is for the weights again.
        structure = replace(config.structure, two_level=False)
        data = load_data(replace(config, finetune=train_config, mosaic=mosaic, structure=structure), device)
        pairs = validation_set(data.validation, train_config.validation_patches, train_config.margin_px)
        master = _teacher(run, train_config.teacher, config, pairs)
        if parallel.is_main():
            _make(folder)
            write_json(folder / "config.json", train_config.to_dict())
        digest = {"teacher_weights": master.digest} if master else {}
        trainer = Trainer(
            "self-ensemble" if from_ensemble else "finetune",
            folder,
            net,
            train_config,
            data.train,
            pairs,
            mirrored_px=4 * config.net.multiple,
            seed=config.seed + (2 if from_ensemble else 1),
            settings={**settings_of(config, train_config), **digest},
            teacher=master,
            report=report,
        )
        trainer.fit(resume)
    return folder


def trained_stage(run: Path) -> str:
    """The most advanced stage that has weights: "ensembled" or else "finetuned"."""
    return "ensembled" if (run / "ensembled" / "best.safetensors").is_file() else "finetuned"


def ensemble_gain(run: Path) -> EnsembleGain | None:
    """What run/ensembled has reached so far; None where it has not begun."""
    stage: StageRecord = read_record(run).ensembled
    if stage.best is None:
        return None
    start = next(row for row in stage.rows if row["kind"] == "validation")  # step 0
    return EnsembleGain(start["psnr_db"], start["psnr_ensemble_db"], stage.best["psnr_db"])


def _begun(folder: Path, chosen: dict[str, Any]) -> TrainConfig:
    """The configuration that a training was begun with, which has to be what is `chosen` now."""
    facts = read_object(folder / "config.json")
    if facts is None:
        option = f" --teacher {chosen['teacher']}" if "teacher" in chosen else ""
        raise ConfigError(
            f"{folder} holds nothing to resume: start with `skdn finetune {folder.parent}{option}`"
        )
    begun = TrainConfig.from_dict(facts)
    for name, value in chosen.items():
        if value != getattr(begun, name):
            raise ConfigError(
                f"{folder} was begun with {name} {getattr(begun, name)}, not {value}: resume with that"
            )
    return begun


def _fresh(folder: Path, config: TrainConfig, chosen: dict[str, Any]) -> TrainConfig:
    if (folder / "last.pt").exists():
        raise ConfigError(f"{folder} is trained already: continue it with --resume, or move it away")
    return parallel.spread(replace(config, **chosen))


def _teacher(run: Path, name: str, config: RunConfig, pairs: Pairs) -> Teacher | None:
    if name == "none":
        return None
    if name == "supernet":
        return supernet_teacher(run, pairs)
    if name == "self-ensemble":
        weights = run / "finetuned" / "best.safetensors"
        # The least frame of whole strides: a patch is small, and eight passes over its frame are dear.
        return ensemble_teacher(load_network(run, "finetuned"), weights, 2 * config.net.multiple, pairs)
    return run_teacher(Path(name), trained_stage(Path(name)), pairs)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made ({error.strerror}): check its folder") from error
