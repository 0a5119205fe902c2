"""What a model file says of itself: the JSON that `metadata_props["skdn"]` of the ONNX file holds.

Input `input` float32 [batch,4,height,width]: planes R, Gr, Gb, B of an RGGB crop,
(raw − black) / (white − black), not clipped below. Input `noise` float32 [batch,2] (shot, read variance)
unless the model is blind. Output `output`, same shape as `input`.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from .errors import ModelError

SCHEMA = 1
METADATA_KEY = "skdn"


@dataclass(frozen=True)
class ModelSpec:
    """The facts of one model; everything the pipeline needs to run it without PyTorch."""

    name: str
    licence: str
    multiple: int
    """Height and width of `input` must be multiples of this many packed pixels (2^depth)."""
    halo: int
    """Packed pixels beyond which a change moves the output by less than a quarter of a 14-bit step."""
    conditioning: str
    """"none" for a blind model; otherwise how `noise` enters the graph."""
    macs_per_mp: float
    """Multiply-accumulates for a raw megapixel (10⁶ sensor pixels)."""
    parameters: int
    genotype: dict[str, Any] = field(default_factory=dict)
    training_data: str = ""
    parity: dict[str, float] = field(default_factory=dict)
    config_hash: str = ""
    pooling: str = "none"
    """Window of local average pooling in channel attention, or "none"."""
    precision: str = "float32"
    """Of the convolutions; inputs and output are float32 in any case."""
    pattern: str = "RGGB"
    schema: int = SCHEMA

    @property
    def blind(self) -> bool:
        """Whether the model takes no noise level."""
        return self.conditioning == "none"

    def to_json(self) -> str:
        """One line of JSON for `metadata_props["skdn"]`."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Parse and check. Raises ModelError for another schema, missing facts or facts of the wrong kind."""
        try:
            facts = json.loads(text)
        except json.JSONDecodeError as error:
            raise ModelError(f"model metadata is not JSON: {error}") from error
        if not isinstance(facts, dict) or facts.get("schema") != SCHEMA:
            found = facts.get("schema") if isinstance(facts, dict) else type(facts).__name__
            raise ModelError(f"model metadata has schema {found!r}, expected {SCHEMA}: use a matching skdn")
        known = {f.name for f in dataclasses.fields(cls)}
        try:
            spec = cls(**{key: value for key, value in facts.items() if key in known})
        except TypeError as error:
            raise ModelError(f"model metadata is incomplete: {error}") from error
        for name, expected, right in _KINDS:
            if not right(value := getattr(spec, name)):
                raise ModelError(f"model metadata has {name} {value!r}, expected {expected}: export it again")
        return spec


def _text(value: object) -> bool:
    return isinstance(value, str)


def _facts(value: object) -> bool:
    return isinstance(value, dict)


def _count_from(least: int) -> Callable[[object], bool]:
    return lambda value: type(value) is int and value >= least


def _amount(value: object) -> bool:
    return type(value) in (int, float) and 0 <= cast(float, value) < math.inf


_KINDS: tuple[tuple[str, str, Callable[[object], bool]], ...] = (
    *((name, "text", _text) for name in ("name", "licence", "conditioning", "training_data")),
    *((name, "text", _text) for name in ("config_hash", "pooling", "precision", "pattern")),
    *((name, "an object", _facts) for name in ("genotype", "parity")),
    ("multiple", "a whole number ≥ 1", _count_from(1)),
    ("halo", "a whole number ≥ 0", _count_from(0)),
    ("parameters", "a whole number ≥ 0", _count_from(0)),
    ("macs_per_mp", "a number ≥ 0", _amount),
)
"""A fact, what it must be, in words and as a check."""
