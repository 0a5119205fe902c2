"""What a run is: frozen dataclasses whose defaults are the recommended run.

A configuration is checked when it is made and saved resolved in the run directory. Nothing here imports
PyTorch, so that commands can offer and check every choice at once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from sk_deploy.errors import ConfigError

RIVALS = ("uniform", "random")
"""Baselines at the cost that a target names: one choice everywhere, and any choice. What a search has on them
is its value."""
BASELINES = ("none", *RIVALS)
"""Types that choose without learning; none: the largest network, the paper's baseline."""
TYPES = ("joint", "factorized", "filterwise", "filterwise-attention", "coupled", *BASELINES)
"""Superkernels."""
MODES = ("full", "separate")
"""Treatments of the non-linearity (§4.5.3)."""
BLOCKS = {"compact-unet": "chain", "skipinit-unet": "skipinit", "attention-unet": "dense"}
"""`--arch` -> the kind of block that it is made of (layers.Block)."""
ARCHS = tuple(BLOCKS)
UPS = ("transposed", "nearest")
"""How a compact-unet brings a level up."""
CONDITIONINGS = ("none", "map", "k-sigma", "anscombe")


@dataclass(frozen=True)
class NetConfig:
    """The search space: a U-Net, and what each of its superkernels may choose."""

    arch: str = "compact-unet"
    widths: tuple[int, ...] = (48, 64, 96, 128)
    """Channels per level; the U-Net is one level less deep than there are widths."""
    blocks: int = 1
    """Blocks per level, in the encoder, the bottom and the decoder."""
    kernels: tuple[int, ...] = (1, 3, 5)
    """1×1 is next to nothing: so a search can also leave a place out."""
    growth: tuple[float, ...] = (0.5, 1.0)
    """Filters that a superkernel may keep, as fractions of its block's width."""
    round_to: int = 16
    """Filter counts are multiples of this: other counts run slower, not faster, in ONNX Runtime."""
    projection: int = 1
    """Kernel size of the convolutions that are not searched inside a level."""
    up: str = "transposed"
    """How a compact-unet brings a level up: "transposed" convolution of stride 2, or 1×1 and "nearest"."""
    conditioning: str = "anscombe"
    masked_from: float = 13.0
    """Fine contrast over the noise's standard deviation from which a compact-unet, once deployed, leaves most
    of a picture as it is: `ContrastMask.half`. Lower for a small network, which loses patterns sooner."""
    subnetworks: int = 1
    """U-Nets side by side in an attention-unet (paper: 1, 3 or 6)."""
    window: int = 64
    """Packed pixels on a side of what channel attention averages once deployed: a training patch."""

    @property
    def depth(self) -> int:
        return len(self.widths) - 1

    @property
    def stride(self) -> int:
        """Of the first convolution, in packed pixels: what level 0 works on."""
        return 2 if self.arch == "compact-unet" else 1

    @property
    def masked(self) -> bool:
        """Whether the network has a `ContrastMask`, which reads features whose noise is 1."""
        return self.arch == "compact-unet" and self.conditioning == "anscombe"

    @property
    def multiple(self) -> int:
        """Packed pixels that height and width of the input must be multiples of."""
        return self.stride * 2**self.depth

    def filter_counts(self, width: int) -> tuple[int, ...]:
        """Counts to choose from at a block of `width` channels: ascending multiples of round_to."""
        unit = self.round_to
        return tuple(sorted({max(unit, unit * round(rate * width / unit)) for rate in self.growth}))

    def __post_init__(self) -> None:
        _one_of("arch", self.arch, ARCHS)
        _one_of("conditioning", self.conditioning, CONDITIONINGS)
        _one_of("up", self.up, UPS)
        if any(k % 2 == 0 or k < 1 for k in self.kernels) or sorted(set(self.kernels)) != list(self.kernels):
            raise ConfigError(f"kernels {self.kernels} must be odd, distinct and ascending")
        if len(self.widths) < 2 or min(self.widths) < 1 or self.blocks < 1 or min(self.growth) <= 0:
            raise ConfigError("a U-Net needs two widths or more, a block or more, and positive growth rates")
        if self.masked_from <= 0:
            raise ConfigError(f"masked_from is {self.masked_from:g}: expected a contrast above 0")
        if self.subnetworks < 1 or (self.arch != "attention-unet" and self.subnetworks > 1):
            raise ConfigError(f"{self.subnetworks} subnetworks: only an attention-unet has more than one")


@dataclass(frozen=True)
class StructureConfig:
    """How the structural distributions are trained."""

    type: str = "joint"
    mode: str = "full"
    learning_rate: float = 3e-3
    betas: tuple[float, float] = (0.5, 0.999)
    tau_start: float = 5.0
    tau_end: float = 0.1
    anneal_steps: int = 0
    """Steps from tau_start to tau_end; 0: all steps of the search. Patience counts from there on."""
    frozen_share: float = 0.1
    """First part of the search: uniform samples, so that no choice starves."""
    hard_share: float = 0.1
    """Last part of the search: straight-through hard samples."""
    bias_rule: str = "marginal"
    """"marginal", or "paper": the mean of the kernel mask (§4.5.4)."""
    keep_above: float = 0.0
    """Logit above which a filter is kept: 0 is a probability of one half (paper: 0.5)."""
    two_level: bool = False
    """Weights and structure are trained on different halves of the scenes (first-order DARTS)."""
    target_macs_per_mp: float | None = None
    target_parameters: float | None = None
    target_latency_ms: float | None = None
    """Of the input that the run's latency table was measured with."""

    def __post_init__(self) -> None:
        _one_of("type", self.type, TYPES)
        _one_of("mode", self.mode, MODES)
        _one_of("bias_rule", self.bias_rule, ("marginal", "paper"))
        if self.type == "none" and self.targets():
            raise ConfigError("type none searches nothing, so it cannot meet a target: leave the target out")
        if self.type in RIVALS and not self.targets():
            raise ConfigError(f"type {self.type} is a network of a given cost: give it a target")

    def targets(self) -> dict[str, float]:
        """Cost -> the most that it may be, for those that have a target; what decides comes first."""
        every = {
            "latency_ms": self.target_latency_ms,
            "macs_per_mp": self.target_macs_per_mp,
            "parameters": self.target_parameters,
        }
        return {name: target for name, target in every.items() if target is not None}


@dataclass(frozen=True)
class TrainConfig:
    """How weights are trained, in a search or in fine-tuning."""

    steps: int = 20_000
    batch: int = 16
    optimiser: str = "muon"
    """"muon" for the weights of convolutions and Adam for the rest, or "adam" for all (paper)."""
    learning_rate: float = 8e-3
    schedule: str = "cosine"
    """"cosine" to a hundredth of the learning rate, or "constant" (paper)."""
    warmup_steps: int = 200
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float | None = 1.0
    patch_px: int | None = None
    """In fine-tuning: side of a patch in sensor pixels; None: as in the search."""
    margin_px: int = 0
    """At each side of a patch, sensor pixels that are neither learnt from nor validated: beyond a patch the
    network sees zeros there, beyond a tile of a photograph what really is there."""
    ema: float = 0.0
    """Decay of the averaged weights that are validated and kept; 0: the weights themselves."""
    shards: int = 1
    """Independent random streams that a batch is drawn from: under torchrun, one or more for each process."""
    compile: bool = True
    """Whether torch.compile translates the network, on CUDA: a minute that a short training does not save."""
    teacher: str = "none"
    """In fine-tuning: "supernet", "self-ensemble", or another run's folder."""
    teacher_weight: float = 0.5
    """Share of the teacher's output in what is learnt; the clean mosaic has the rest."""
    validate_every: int = 1000
    patience: int = 30
    """At a constant learning rate, stop after this many validations without a better PSNR (paper: 30)."""
    validation_patches: int = 48
    log_every: int = 100

    def __post_init__(self) -> None:
        _one_of("optimiser", self.optimiser, ("muon", "adam"))
        _one_of("schedule", self.schedule, ("cosine", "constant"))
        for name in ("steps", "batch", "validate_every", "patience", "validation_patches", "log_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.shards < 1 or self.batch % self.shards:
            raise ConfigError(f"batch {self.batch} does not divide into {self.shards} shards")
        if self.margin_px < 0 or self.margin_px % 2:
            raise ConfigError(f"margin_px is {self.margin_px}: expected an even number of sensor pixels")
        _fractions(self, ("teacher_weight",))

    def rate_at(self, step: int) -> float:
        """The learning rate of a step: warmed up, then by the schedule."""
        rate = self.learning_rate * min(1.0, (step + 1) / (self.warmup_steps + 1))
        if self.schedule == "constant":
            return rate
        falling = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return rate * (0.01 + 0.99 * falling)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> TrainConfig:
        return _from_dict(cls, facts)


@dataclass(frozen=True)
class MosaicConfig:
    """How scenes become clean mosaics."""

    patch_px: int = 128
    """Side of a patch in sensor pixels, even."""
    blur_fraction: float = 0.5
    """Share of the samples that a lens blurs."""
    blur_px: tuple[float, float] = (0.5, 1.5)
    """Standard deviation of that blur in sensor pixels."""
    red_gain: tuple[float, float] = (1.2, 2.8)
    blue_gain: tuple[float, float] = (1.2, 2.6)
    """White balance gains; the mosaic holds the scene divided by them."""
    saturation: tuple[float, float] = (0.7, 1.6)
    """Scale of the distance from grey: photographs rarely hold the colours of flowers and stage light."""
    exposure: tuple[float, float] = (0.03, 2.0)
    """Scale of the scene, log-uniform; what exceeds white is clipped, as in a photograph."""
    unscaled_share: float = 0.4
    """Share of the samples whose exposure is 1."""

    def __post_init__(self) -> None:
        if self.patch_px < 2 or self.patch_px % 2:
            raise ConfigError(f"patch_px is {self.patch_px}: expected an even number of sensor pixels")
        _ranges(self, ("blur_px", "red_gain", "blue_gain", "saturation", "exposure"))
        _fractions(self, ("blur_fraction", "unscaled_share"))


@dataclass(frozen=True)
class NoiseConfig:
    """Ranges that the training noise is drawn from; white = 1."""

    shot: tuple[float, float] = (3e-6, 3e-2)
    """Variance per unit of signal, log-uniform."""
    high_shot: tuple[float, float] = (3e-4, 3e-2)
    """The same at high sensitivity, where a picture is worth denoising."""
    high_share: float = 0.6
    """Share of the samples that are drawn from `high_shot`; with the rest, four fifths of all lie there. At 0
    `nano` has 0.1 to 0.2 dB less at these levels; at 1 it takes text at base ISO for noise."""
    read_electrons: tuple[float, float] = (0.07, 40.0)
    """Read noise before the gain, standard deviation in photo-electrons: triangular in the logarithm, so
    densest near 2, as calibrations are."""
    read_converter: tuple[float, float] = (2e-5, 1e-3)
    """Read noise after the gain, standard deviation, log-uniform: what is left at low sensitivity."""
    max_read: float = 2e-3
    """Read variance goes no higher."""
    level_error: float = 0.06
    """Standard deviation of the logarithm of the stated over the true noise: an estimate is never exact."""
    bits: tuple[int, int] = (10, 14)
    """Bit depths of the converter, each as likely; finer where a step would exceed the read noise."""
    unquantised_share: float = 0.2
    """Share of the samples that keep their fractions."""
    row_share: float = 0.3
    """Share of the samples with row noise."""
    row_to_read: float = 0.3
    """Row noise is up to this share of the read noise (standard deviations)."""
    hot_share: float = 0.3
    """Share of the samples with hot pixels."""
    hot_rate: float = 5e-5
    """Share of the pixels that are hot, in those samples."""
    hot_level: tuple[float, float] = (0.05, 1.0)
    """What a hot pixel adds, log-uniform."""

    def __post_init__(self) -> None:
        _ranges(self, ("shot", "high_shot", "read_electrons", "read_converter", "hot_level"), "noise ")
        if not 4 <= self.bits[0] <= self.bits[1] <= 16:
            raise ConfigError(
                f"noise bits are {self.bits[0]} to {self.bits[1]}: expected 4 <= low <= high <= 16"
            )
        shares = ("high_share", "unquantised_share", "row_share", "hot_share")
        _fractions(self, (*shares, "level_error", "row_to_read", "hot_rate"), "noise ")


@dataclass(frozen=True)
class RunConfig:
    """One search, with the fine-tuning that follows it."""

    preset: str = "small"
    data: tuple[str, ...] = ("dead-leaves",)
    """"dead-leaves" (embedded), or folders of what sources.py knows."""
    scenes: int = 512
    """Procedural scenes to render, where dead-leaves is a source."""
    seed: int = 0
    net: NetConfig = field(default_factory=NetConfig)
    structure: StructureConfig = field(default_factory=StructureConfig)
    search: TrainConfig = field(default_factory=TrainConfig)
    finetune: TrainConfig = field(default_factory=lambda: TrainConfig(ema=0.999))
    mosaic: MosaicConfig = field(default_factory=MosaicConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)

    def __post_init__(self) -> None:
        if self.structure.anneal_steps > self.search.steps:
            raise ConfigError(
                f"anneal_steps {self.structure.anneal_steps} is more than the search's {self.search.steps} "
                "steps: the structure would never be decided"
            )
        if self.mosaic.patch_px % (2 * self.net.multiple):
            raise ConfigError(
                f"patch_px {self.mosaic.patch_px}: a U-Net of depth {self.net.depth} needs a multiple of "
                f"{2 * self.net.multiple} sensor pixels"
            )
        for train in (self.search, self.finetune):
            patch_px = train.patch_px or self.mosaic.patch_px
            if 2 * train.margin_px >= patch_px:
                raise ConfigError(
                    f"margin_px {train.margin_px} leaves nothing of a patch of {patch_px} sensor pixels"
                )
        if self.search.teacher != "none":
            raise ConfigError(
                f"a search has no teacher, not {self.search.teacher!r}: finetune.teacher may be one"
            )
        if self.net.arch == "attention-unet" and self.net.window != self.mosaic.patch_px // 2:
            raise ConfigError(
                f"window {self.net.window}: channel attention trained on patches of {self.mosaic.patch_px} "
                f"sensor pixels needs {self.mosaic.patch_px // 2}"
            )

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> RunConfig:
        parts = {
            "net": NetConfig,
            "structure": StructureConfig,
            "search": TrainConfig,
            "finetune": TrainConfig,
            "mosaic": MosaicConfig,
            "noise": NoiseConfig,
        }
        if not isinstance(facts, dict) or not all(isinstance(facts.get(k, {}), dict) for k in parts):
            raise ConfigError("this configuration is damaged: expected an object of objects")
        made = {k: _from_dict(parts[k], v) if k in parts else v for k, v in facts.items()}
        return _from_dict(cls, made)

    def digest(self) -> str:
        """Twelve hexadecimal digits that identify the configuration."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:12]


def _ranges(config: object, names: tuple[str, ...], of: str = "") -> None:
    """ConfigError unless each field is two ascending positive numbers. of: what the message puts first."""
    for name in names:
        low, high = getattr(config, name)
        if not 0 < low <= high:
            raise ConfigError(f"{of}{name} is {low:g} to {high:g}: expected 0 < low <= high")


def _fractions(config: object, names: tuple[str, ...], of: str = "") -> None:
    """ConfigError unless each field is from 0 to 1."""
    for name in names:
        if not 0 <= getattr(config, name) <= 1:
            raise ConfigError(f"{of}{name} is {getattr(config, name):g}: expected 0 to 1")


def _one_of(name: str, value: str, known: Collection[str]) -> None:
    if value not in known:
        raise ConfigError(f"{name} {value!r} is not one of {', '.join(known)}")


def _from_dict(cls: type[Any], facts: dict[str, Any]) -> Any:
    """A configuration from JSON, which gives lists back for tuples. ConfigError for unknown fields."""
    try:
        return cls(**{name: tuple(v) if isinstance(v, list) else v for name, v in facts.items()})
    except TypeError as error:
        raise ConfigError(f"this configuration is of another version of skdn: {error}") from error
