"""What a model file says of itself: the JSON that `metadata_props["skdn"]` of the ONNX file holds.

Input `input` float32 [batch,4,height,width]: planes R, Gr, Gb, B of an RGGB crop,
(raw − black) / (white − black), not clipped below. Input `noise` float32 [batch,2] (shot, read variance)
unless the model is blind. Output `output`, same shape as `input`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from textwrap import shorten
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
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> ModelSpec:
        """Parse and check. Raises ModelError for another schema, missing facts or facts of the wrong kind."""
        try:
            facts = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ModelError(f"model metadata is not JSON: {error}") from error
        if not isinstance(facts, dict) or facts.get("schema") != SCHEMA:
            schema = facts.get("schema") if isinstance(facts, dict) else type(facts).__name__
            found = shorten(repr(schema), 60)
            raise ModelError(f"model metadata has schema {found}, expected {SCHEMA}: use a matching skdn")
        known = {f.name for f in dataclasses.fields(cls)}
        try:
            spec = cls(**{key: value for key, value in facts.items() if key in known})
        except TypeError as error:
            raise ModelError(f"model metadata is incomplete: {error}") from error
        for name, expected, right in _KINDS:
            if not right(value := getattr(spec, name)):
                found = shorten(repr(value), 60)
                raise ModelError(f"model metadata has {name} {found}, expected {expected}: export it again")
        return spec


def _text(value: object) -> bool:
    return isinstance(value, str)


def _short_line(value: object) -> bool:
    return isinstance(value, str) and len(value) <= 200 and value.isprintable()


def _facts(value: object) -> bool:
    return isinstance(value, dict)


def _count(least: int, most: int) -> Callable[[object], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _amount(value: object) -> bool:
    return type(value) in (int, float) and 0 <= cast(float, value) < 1e18


_KINDS: tuple[tuple[str, str, Callable[[object], bool]], ...] = (
    *((name, "a line of text", _short_line) for name in ("name", "licence", "conditioning", "config_hash")),
    *((name, "a line of text", _short_line) for name in ("pooling", "precision")),
    ("training_data", "text", _text),
    ("pattern", "'RGGB'", lambda value: value == "RGGB"),
    *((name, "an object", _facts) for name in ("genotype", "parity")),
    ("multiple", "a whole number from 1 to 256", _count(1, 256)),
    ("halo", "a whole number from 0 to 2048", _count(0, 2048)),
    ("parameters", "a whole number ≥ 0", _count(0, 2**62)),
    ("macs_per_mp", "a number from 0 to 1e18", _amount),
)
"""A fact, what it must be, in words and as a check."""
