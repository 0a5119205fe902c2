"""A model as a `.dtmodel`: a package that darktable's neural restore takes as a raw denoiser.

darktable (5.6, `src/common/ai/restore_raw_bayer.c`) cuts an RGGB-aligned crop into tiles of T = 512 packed
pixels that overlap by 32 on each side, beyond the borders by reflection. It feeds `input` float32 [1,4,T,T]:
R, G1, G2, B, (raw − black) / (white − black), not clipped. It takes `output` [1,3,2T,2T] for camera RGB and
reads at each site of the mosaic only that site's colour, fading from tile to tile across the whole overlap.
It knows no noise level, and one that was estimated per tile would show as seams: a model that wants one gets
one level, which becomes part of the package.

Because the fading reaches to the very edge of a tile, which is a border to the network, pixels there are not
what the whole picture would give: within the halo of an edge they count with a weight below halo / 64.
Measured on `small` at shot 2e-3: no more than a twentieth of the noise's standard deviation.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from typing import Any

import numpy as np

from .errors import ConfigError, ModelError
from .noise import NoiseProfile
from .spec import ModelSpec

TILE_PACKED = 512
OVERLAP_PACKED = 32


def check_noise(name: str, blind: bool, noise: NoiseProfile | None) -> None:
    """Raises ConfigError when a conditioned model has no level, or a blind one has."""
    if not blind and noise is None:
        raise ConfigError(
            f"model {name} wants a noise level and darktable knows none: give the one that the package is "
            "for, --noise SHOT,READ"
        )
    if blind and noise is not None:
        raise ConfigError(f"model {name} is blind: leave out --noise")


def check_tiles(name: str, multiple: int, halo: int) -> None:
    """Raises ModelError when darktable's tiles would show: the grid is too coarse or the reach too long."""
    if OVERLAP_PACKED % multiple:
        raise ModelError(
            f"model {name} works on a grid of {multiple} packed pixels: expected a divisor of darktable's "
            f"overlap, {OVERLAP_PACKED}; a network with fewer levels has it"
        )
    if halo > OVERLAP_PACKED:
        raise ModelError(
            f"model {name} sees {halo} packed pixels far, darktable's tiles overlap by {OVERLAP_PACKED}: "
            "their seams would show; a network with a smaller halo fits"
        )


def pack_for_darktable(model: Any, spec: ModelSpec, noise: NoiseProfile | None = None) -> bytes:
    """The bytes of a .dtmodel: a zip of <id>/config.json and <id>/model_bayer.onnx.

    `noise` is the level that a conditioned model is to work at. Raises ConfigError or ModelError for a model
    that darktable could not run well.
    """
    check_noise(spec.name, spec.blind, noise)
    check_tiles(spec.name, spec.multiple, spec.halo)
    config = _config(spec, noise)
    files = {
        "config.json": json.dumps(config, indent=1, ensure_ascii=False).encode(),
        "model_bayer.onnx": _to_rgb(model, noise).SerializeToString(),
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(
                f"{config['id']}/{name}"
            )  # without a time: the same model, the same bytes
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return packed.getvalue()


def _config(spec: ModelSpec, noise: NoiseProfile | None) -> dict[str, Any]:
    slug = re.sub(r"[^a-z0-9]+", "-", spec.name.lower()).strip("-")
    if not slug:
        raise ConfigError(f"the name {spec.name!r} gives no folder name: expected a letter or digit: --name")
    level = (
        "any noise level" if noise is None else f"noise shot {noise.shot:g}, read {noise.read:g} (white = 1)"
    )
    return {
        "id": f"rawdenoise-skdn-{slug}",
        "name": f"raw denoise skdn {spec.name}",
        "description": f"Compact raw denoiser for {level}",
        "task": "rawdenoise",
        "version": "1.0",
        "arch": spec.genotype.get("arch", "skdn"),
        "backend": "onnx",
        "tiling": True,
        "attributes": {
            "input_sizes": [TILE_PACKED],
            "model_bayer": {
                "input_kind": "bayer_v1",
                "bayer_orientation": "force_rggb",
                "edge_pad": "mirror_cropped",
                "wb_norm": "none",
                "output_scale": "absolute",
            },
        },
        "model_card": {
            "scope": "raw images of Bayer sensors",
            "license": spec.licence,
            "training_data": spec.training_data or "unstated",
            "training_data_license": "unstated",
            "notes": f"Made by skdn for {level}; {spec.macs_per_mp / 1e9:.2f} GMAC per raw megapixel",
        },
    }


def _to_rgb(model: Any, noise: NoiseProfile | None) -> Any:
    """The graph with `output` [batch,3,2h,2w]: at each site the value of its plane in that plane's colour.

    The other values are never read. They are the nearest of their colour, at red and blue sites the mean of
    the greens of their cell, so that the picture can be looked at.
    """
    import onnx
    from onnx import helper, numpy_helper

    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    for node in graph.node:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                if name == "output":
                    names[position] = "darktable_planes"
    tensors = {"darktable_ones": np.ones(4, np.int64), "darktable_half": np.array(0.5, np.float32)}
    if noise is not None:
        tensors["noise"] = np.array([[noise.shot, noise.read]], np.float32)
        (index,) = (index for index, value in enumerate(graph.input) if value.name == "noise")
        del graph.input[index]
    r, g1, g2, b, g = (f"darktable_{plane}" for plane in ("r", "g1", "g2", "b", "g"))
    graph.node.extend(
        [
            helper.make_node("Split", ["darktable_planes", "darktable_ones"], [r, g1, g2, b], axis=1),
            helper.make_node("Add", [g1, g2], ["darktable_greens"]),
            helper.make_node("Mul", ["darktable_greens", "darktable_half"], [g]),
            helper.make_node("Concat", [r, r, r, r, g, g1, g2, g, b, b, b, b], ["darktable_sites"], axis=1),
            helper.make_node("DepthToSpace", ["darktable_sites"], ["output"], blocksize=2, mode="CRD"),
        ]
    )
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in tensors.items())
    shape = ["batch", 3, "2*height", "2*width"]
    del graph.output[:], graph.value_info[:]
    graph.output.append(helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, shape))
    onnx.checker.check_model(result, full_check=True)
    return result
