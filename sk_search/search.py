"""`skdn search`: train a supernet and the distributions over its structure (§4, §5.1)."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import torch

from . import parallel
from .checkpoint import settings_of
from .config import RunConfig
from .data import load_data, validation_set
from .lut import LatencyTable
from .nets import Network, build_supernet
from .run import claim_folder, create_run, load_config, load_table
from .structure import Structure
from .training import Report, Trainer

log = logging.getLogger(__name__)


def pick_device() -> torch.device:
    """CUDA where there is one.

    Its convolutions of float32 are those that must be exact (conditioning.Stem), so none is done in TF32.
    """
    torch.backends.cudnn.allow_tf32 = False
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def search(
    run: Path, config: RunConfig | None, report: Report = lambda record: None, lut: Path | None = None
) -> None:
    """Search in the directory `run`.

    config: a new run with this configuration; None: continue the run that is there. lut: the latency table of
    a new run with a target in milliseconds; the run keeps a copy. Raises ConfigError.
    """
    with parallel.joined():
        _search(parallel.share(run), config, report, lut)


def build(config: RunConfig, table: LatencyTable | None, device: torch.device) -> tuple[Network, Structure]:
    """The supernet of a new run, and its structure. ConfigError for a target that it cannot meet."""
    if table:
        table.check(config.net)
    torch.manual_seed(config.seed)  # initial weights
    net = build_supernet(config.net, config.structure).to(device)
    structure = Structure(net, config.structure, table)
    structure.fix_baseline(config.seed)
    return net, structure


def _search(run: Path, config: RunConfig | None, report: Report, lut: Path | None) -> None:
    resume = config is None
    if config is None:
        config, table = load_config(run), load_table(run)
    else:
        table = LatencyTable.read(lut) if lut else None
        config = replace(config, search=parallel.spread(config.search))
        if parallel.is_main():
            claim_folder(run)
    device = pick_device()
    net, structure = build(config, table, device)  # refuses before any data is read
    data = load_data(config, device)
    if not resume and parallel.is_main():
        if table:
            table.write(run / "lut.json")
        create_run(run, config)
        for line in structure.feasibility:
            log.info(line)
    trainer = Trainer(
        "search",
        run,
        net,
        config.search,
        data.train,
        validation_set(data.validation, config.search.validation_patches, config.search.margin_px),
        mirrored_px=4 * config.net.multiple,
        seed=config.seed,
        settings=settings_of(config, config.search),
        structure=structure,
        round_to=config.net.round_to,
        structure_data=data.structure,
        report=report,
    )
    trainer.fit(resume)
