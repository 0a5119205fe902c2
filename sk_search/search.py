"""`skdn search`: train a supernet and the distributions over its structure (§4, §5.1)."""

from __future__ import annotations

from pathlib import Path

import torch

from .config import RunConfig
from .data import load_data, validation_set
from .nets import build_supernet
from .run import claim_folder, create_run, load_config
from .structure import Structure
from .training import Report, Trainer


def pick_device() -> torch.device:
    """CUDA where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def search(run: Path, config: RunConfig | None, report: Report = lambda record: None) -> None:
    """Search in the directory `run`.

    config: a new run with this configuration; None: continue the run that is there. Raises ConfigError.
    """
    resume = config is None
    if config is None:
        config = load_config(run)
    else:
        claim_folder(run)
    device = pick_device()
    torch.manual_seed(config.seed)  # initial weights
    net = build_supernet(config.net, config.structure).to(device)
    structure = Structure(net, config.structure)  # refuses an impossible target before any data is read
    train, held_out = load_data(config, device)
    if not resume:
        create_run(run, config)
    trainer = Trainer(
        "search",
        run,
        net,
        config.search,
        train,
        validation_set(held_out, config.search.validation_patches),
        margin_px=4 * config.net.multiple,
        seed=config.seed,
        structure=structure,
        report=report,
    )
    trainer.fit(resume)
