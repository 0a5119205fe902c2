"""`skdn finetune`: train the distilled network on, its structure now fixed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sk_deploy.errors import ConfigError

from .config import TrainConfig
from .data import load_data, validation_set
from .distil import load_network
from .record import read_object
from .run import load_config, write_json
from .search import pick_device
from .training import Report, Trainer


def finetune(
    run: Path, *, steps: int | None = None, resume: bool = False, report: Report = lambda record: None
) -> None:
    """Fine-tune in run/finetuned, from the distilled weights, or continue there.

    steps: None takes the run's configuration; with `resume` another number lengthens or shortens the
    schedule from there on. Raises ConfigError when the run is not distilled, or when fine-tuned weights would
    be lost.
    """
    folder = run / "finetuned"
    config = load_config(run)
    if resume:
        facts = read_object(folder / "config.json")
        if facts is None:
            raise ConfigError(f"{folder} holds nothing to resume: start with `skdn finetune {run}`")
        begun = TrainConfig.from_dict(facts)
    else:
        if (folder / "last.pt").exists():
            raise ConfigError(f"{folder} is trained already: continue it with --resume, or move it away")
        begun = config.finetune
    train_config = replace(begun, steps=steps or begun.steps)
    device = pick_device()
    net = load_network(run, "distilled").to(device)
    train, held_out = load_data(config, device)
    folder.mkdir(exist_ok=True)
    write_json(folder / "config.json", train_config.to_dict())
    trainer = Trainer(
        "finetune",
        folder,
        net,
        train_config,
        train,
        validation_set(held_out, train_config.validation_patches),
        margin_px=4 * config.net.multiple,
        seed=config.seed + 1,
        report=report,
    )
    trainer.fit(resume)
