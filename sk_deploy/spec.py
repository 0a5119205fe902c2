"""What a model file says of itself: the JSON that `metadata_props["skdn"]` of the ONNX file holds.

Input `input` float32 [batch,4,height,width]: planes R, Gr, Gb, B of an RGGB crop,
(raw − black) / (white − black), not clipped below. Input `noise` float32 [batch,2] (shot, read variance) unless
the model is blind. Output `output`, same shape as `input`.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

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
        """Parse and check. Raises ModelError for another schema or missing facts."""
        try:
            facts = json.loads(text)
        except json.JSONDecodeError as error:
            raise ModelError(f"model metadata is not JSON: {error}") from error
        if not isinstance(facts, dict) or facts.get("schema") != SCHEMA:
            found = facts.get("schema") if isinstance(facts, dict) else type(facts).__name__
            raise ModelError(f"model metadata has schema {found!r}, expected {SCHEMA}: use a matching skdn")
        known = {f.name for f in dataclasses.fields(cls)}
        try:
            return cls(**{key: value for key, value in facts.items() if key in known})
        except TypeError as error:
            raise ModelError(f"model metadata is incomplete: {error}") from error
