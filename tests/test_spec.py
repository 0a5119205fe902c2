"""Model metadata: what is written is read back, and what cannot be meant is refused in one line."""

from __future__ import annotations

import json

import onnx_models as models
import pytest

from sk_deploy.errors import ModelError
from sk_deploy.spec import ModelSpec

FACTS = json.loads(models.spec(genotype={"superkernels": []}, parity={"onnx": 1e-7}).to_json())


def test_written_is_read() -> None:
    spec = models.spec(name="größer", genotype={"superkernels": []}, parity={"onnx": 1e-7})
    assert ModelSpec.from_json(spec.to_json()) == spec


def test_facts_of_a_later_version_are_left_out() -> None:
    assert ModelSpec.from_json(json.dumps(FACTS | {"mood": "sunny"})) == ModelSpec(**FACTS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (name, value)
            for name in ("multiple", "halo", "parameters")
            for value in (-1, 1.5, "2", True, None)
        ),
        *(("multiple", value) for value in (0, 2**40)),
        *((name, 10**300) for name in ("halo", "parameters", "macs_per_mp")),
        *(("name", value) for value in ("two\nlines", "\x1b[2J", 1000 * "x")),
        ("pattern", "BGGR"),
        *(("macs_per_mp", value) for value in (-1, "1e9", True, float("nan"), float("inf"), [1e9])),
        *((name, 3) for name in ("name", "licence", "conditioning", "pooling", "pattern", "config_hash")),
        ("training_data", ["photos"]),
        ("genotype", []),
        ("parity", 1e-7),
    ],
)
def test_wrong_kinds_are_named(name: str, value: object) -> None:
    with pytest.raises(ModelError, match=f"model metadata has {name} .*, expected ") as caught:
        ModelSpec.from_json(json.dumps(FACTS | {name: value}))
    assert "\n" not in str(caught.value)


def test_missing_facts_are_named() -> None:
    with pytest.raises(ModelError, match=r"incomplete.*licence"):
        ModelSpec.from_json(json.dumps({key: value for key, value in FACTS.items() if key != "licence"}))


@pytest.mark.parametrize(
    "text",
    ["[1]", "3", json.dumps(FACTS | {"schema": 7}), "{", 100_000 * "[", '{"schema": ' + 9999 * "9" + "}"],
)
def test_other_metadata(text: str) -> None:
    with pytest.raises(ModelError, match=r"expected 1|not JSON") as refused:
        ModelSpec.from_json(text)
    assert len(str(refused.value)) < 200
