"""A training run of seconds, for what tests the trainer; and equality of two runs."""

import json
import multiprocessing
from dataclasses import replace

import torch

from sk_search.config import MosaicConfig, NetConfig
from sk_search.presets import tiny


def small_config(**changes):
    base = tiny()
    train = replace(
        base.search, steps=12, batch=2, validate_every=4, validation_patches=2, log_every=2, warmup_steps=2
    )
    return replace(
        base,
        scenes=12,
        net=NetConfig(arch="skipinit-unet", widths=(8, 8), kernels=(3, 5), growth=(0.5, 1.0), round_to=4),
        mosaic=MosaicConfig(patch_px=32),
        search=replace(train, **changes),
        finetune=replace(train, ema=0.9),
    )


class Interrupted(Exception):
    """Stands for a kill: nothing catches it, nothing is saved."""


def interrupt_at(step):
    def report(record):
        if record["step"] >= step:
            raise Interrupted

    return report


def assert_same_run(one, other):
    """Every tensor of the last checkpoints, and every logged figure but times."""
    states = [torch.load(run / "last.pt", weights_only=True) for run in (one, other)]
    for state in states:
        del state["seconds"], state["metrics_bytes"]
    assert states[0].pop("settings") == states[1].pop("settings")
    torch.testing.assert_close(*states, rtol=0, atol=0)
    logs = [
        [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (one, other)
    ]
    for record in logs[0] + logs[1]:
        record.pop("seconds", None), record.pop("patches_per_s", None)
    assert logs[0] == logs[1]


PROCESSES = multiprocessing.get_context("forkserver")
"""Real processes, each a second away: they are forked from one that has imported the trainer."""
PROCESSES.set_forkserver_preload(["sk_search.search"])


def spawn(function, *arguments):
    """A started process that runs function(*arguments)."""
    process = PROCESSES.Process(target=function, args=arguments)
    process.start()
    return process
