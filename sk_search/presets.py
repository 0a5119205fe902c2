"""The configurations that `--preset` offers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from .config import MosaicConfig, NetConfig, RunConfig, StructureConfig, TrainConfig


def paper_model1() -> RunConfig:
    """SkipInit model 1 (§5.2): depth 3, 32 channels at level 0 in arithmetic progression, 28 superkernels."""
    return _paper("paper-model1", _paper_skipinit(widths=(32, 64, 96, 128)))


def paper_model2() -> RunConfig:
    """SkipInit model 2 (§5.2): depth 2, 64 channels at level 0, 20 superkernels."""
    return _paper("paper-model2", _paper_skipinit(widths=(64, 128, 192)))


def paper_attention(subnetworks: int) -> RunConfig:
    """The multi-attentional residual U-Net (§3.1, §5.3): 14 superkernels in each of 1, 3 or 6 subnetworks."""
    net = NetConfig(
        arch="attention-unet",
        widths=(64, 128, 256, 512),
        kernels=(3, 5, 7),
        growth=(0.25, 0.5, 1.0),
        round_to=1,
        projection=3,
        conditioning="none",
        subnetworks=subnetworks,
    )
    return _paper(f"paper-attention{subnetworks}", net)


def _paper_skipinit(widths: tuple[int, ...]) -> NetConfig:
    return NetConfig(
        arch="skipinit-unet",
        widths=widths,
        blocks=2,
        kernels=(3, 5),
        growth=(0.2, 0.4, 0.6),
        round_to=1,
        projection=3,
        conditioning="none",
    )


def _paper(name: str, net: NetConfig) -> RunConfig:
    train = TrainConfig(
        steps=1_000_000,  # early stopping ends it
        batch=4,
        optimiser="adam",
        learning_rate=2e-5,
        schedule="constant",
        warmup_steps=0,
        betas=(0.9, 0.999),
        clip_norm=None,
    )
    return RunConfig(
        preset=name,
        net=net,
        structure=StructureConfig(bias_rule="paper", keep_above=0.5, anneal_steps=50_000),
        search=train,
        finetune=train,
    )


def nano() -> RunConfig:
    """A third of a 4 GMAC separable network's time on a CPU, half a megabyte, once some blocks are out.

    As it was found: its levels come up by nearest neighbours. Two blocks a level, because at level 0 of the
    decoder a second one, of 1×1, is worth 0.1 dB in 6 % of the time, more than any 3×3 that costs as much.
    """
    net = NetConfig(widths=(32, 48, 64), blocks=2, kernels=(1, 3), up="nearest", masked_from=7.0)
    return _shipped("nano", net, StructureConfig(target_macs_per_mp=2.2e9, target_parameters=180e3))


def small() -> RunConfig:
    """The default of `skdn denoise`.

    Many blocks, because depth pays more than 3×3 in both convolutions of a block; of whole width, because
    half as many filters take more than half of the time.
    """
    net = NetConfig(widths=(32, 48), blocks=5, kernels=(1, 3), growth=(1.0,), up="nearest")
    return _shipped("small", net, StructureConfig(target_macs_per_mp=6.15e9))


def base() -> RunConfig:
    """The best picture: as `small`, twice as deep and half as wide again."""
    net = NetConfig(widths=(48, 64), blocks=10, kernels=(1, 3), growth=(1.0,), up="nearest")
    return _shipped("base", net, StructureConfig(target_macs_per_mp=28.4e9))


def _shipped(name: str, net: NetConfig, structure: StructureConfig) -> RunConfig:
    """Small patches and many steps: of equal pixels, 16 patches of 64 px teach more than 8 of 128 px."""
    return RunConfig(
        preset=name,
        net=net,
        structure=replace(structure, learning_rate=1e-2),  # its default leaves so short a search undecided
        search=TrainConfig(steps=2_000, validate_every=500, compile=False),
        finetune=TrainConfig(steps=100_000, patch_px=128, margin_px=16, ema=0.999),
        mosaic=MosaicConfig(patch_px=64),
    )


def tiny() -> RunConfig:
    """Minutes on two cores: the demo and the tests."""
    train = TrainConfig(batch=8, warmup_steps=50, validation_patches=12, log_every=20, compile=False)
    return RunConfig(
        preset="tiny",
        scenes=96,
        net=NetConfig(widths=(32, 48), kernels=(3, 5)),
        search=replace(train, steps=500, validate_every=250),
        finetune=replace(train, steps=2000, validate_every=500, ema=0.99),
    )


PRESETS = {
    "paper-model1": paper_model1,
    "paper-model2": paper_model2,
    **{f"paper-attention{n}": partial(paper_attention, n) for n in (1, 3, 6)},
    "nano": nano,
    "small": small,
    "base": base,
    "tiny": tiny,
}
"""`--preset` -> the function that returns its configuration."""
