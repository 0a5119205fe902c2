"""Self-ensemble: every transform knows the phase it leads to, and the mean is equivariant everywhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_models as models
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sk_deploy.bayer import PHASES
from sk_deploy.denoiser import Denoiser
from sk_deploy.ensemble import DIHEDRAL, IDENTITY, Dihedral

mosaics = st.builds(
    lambda height, width, seed: (
        np.random.default_rng(seed).normal(0.2, 0.3, (height, width)).astype(np.float32)
    ),
    st.integers(2, 70),
    st.integers(2, 70),
    st.integers(0, 9),
)
phases = st.sampled_from(sorted(PHASES))
transforms = st.sampled_from(DIHEDRAL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def unet(folder: Path) -> Denoiser:
    """Tiles of 24 packed pixels, so that most of the mosaics take several."""
    return Denoiser.from_file(models.unet(folder / "unet.onnx"), "cpu", tile=48)


def colour_map(phase: str, shape: tuple[int, int]) -> np.ndarray:
    """0 red, 1 green, 2 blue at every site."""
    row, column = PHASES[phase]
    y, x = np.mgrid[: shape[0], : shape[1]]
    return ((y - row) % 2 + (x - column) % 2).astype(np.float32)


def test_eight_different_transforms() -> None:
    mosaic = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert DIHEDRAL[0] == IDENTITY
    assert len({transform.view(mosaic).tobytes() for transform in DIHEDRAL}) == 8


@given(height=st.integers(1, 8), width=st.integers(1, 8), phase=phases, transform=transforms)
@settings(deadline=None)
def test_phase_of_a_transformed_mosaic(height: int, width: int, phase: str, transform: Dihedral) -> None:
    transformed = transform.view(colour_map(phase, (height, width)))
    expected = colour_map(transform.phase(phase, (height, width)), transformed.shape)
    np.testing.assert_array_equal(transformed, expected)


def test_views_write_through() -> None:
    mosaic = np.zeros((2, 3), np.float32)
    for transform in DIHEDRAL:
        transform.view(mosaic)[...] += 1
    assert (mosaic == 8).all()


@given(mosaic=mosaics, phase=phases)
@settings(max_examples=40, deadline=None)
def test_identity_network(folder: Path, mosaic: np.ndarray, phase: str) -> None:
    identity = Denoiser.from_file(models.identity(folder / "identity.onnx", multiple=8), "cpu")
    np.testing.assert_allclose(identity(mosaic, phase=phase, ensemble=True), mosaic, rtol=1e-6)


@given(mosaic=mosaics, phase=phases)
@settings(max_examples=40, deadline=None)
def test_colours_never_mix(folder: Path, mosaic: np.ndarray, phase: str) -> None:
    """Red times 2, blue times 5, and the greens, which half of the transforms exchange, times (3 + 4) / 2."""
    path = models.plane_gains(folder / "gains.onnx", (2, 3, 4, 5))
    gains = np.array([2, 3.5, 5], np.float32)[colour_map(phase, mosaic.shape).astype(int)]
    denoised = Denoiser.from_file(path, "cpu")(mosaic, phase=phase, ensemble=True)
    np.testing.assert_allclose(denoised, gains * mosaic, rtol=1e-5)


@given(mosaic=mosaics, phase=phases, transform=transforms)
@settings(max_examples=60, deadline=None)
def test_equivariant(unet: Denoiser, mosaic: np.ndarray, phase: str, transform: Dihedral) -> None:
    """ensemble(flip(mosaic)) = flip(ensemble(mosaic)), borders and odd sizes included."""
    flipped = np.ascontiguousarray(transform.view(mosaic))
    turned = unet(flipped, phase=transform.phase(phase, mosaic.shape), ensemble=True)
    expected = transform.view(unet(mosaic, phase=phase, ensemble=True))
    np.testing.assert_allclose(turned, expected, atol=2e-6)


def test_one_pass_is_not_equivariant(unet: Denoiser) -> None:
    """The check above can fail."""
    mosaic = np.random.default_rng(0).normal(0.2, 0.3, (30, 30)).astype(np.float32)
    flip = Dihedral(flip_columns=True)
    turned = unet(flip.view(mosaic), phase=flip.phase("RGGB", mosaic.shape))
    assert np.abs(turned - flip.view(unet(mosaic))).max() > 0.01


@pytest.mark.parametrize(
    "network",
    [
        models.convolutions,
        models.unet,
    ],
)
def test_training_and_deployment_have_the_same_ensemble(folder: Path, network: Callable[..., Path]) -> None:
    """Validation's tensors on a mirrored canvas = deployment's tiles, a halo away from the edges."""
    torch = pytest.importorskip("torch", reason="the search extra is not installed")
    from sk_search.evaluate import self_ensemble

    deployed = Denoiser.from_file(network(folder / "both.onnx"), "cpu", tile=48)
    mosaic = np.random.default_rng(0).normal(0.2, 0.3, (96, 72)).astype(np.float32)
    validated = self_ensemble(
        lambda planes, noise: torch.from_numpy(deployed.session.run(planes.numpy())),
        torch.from_numpy(mosaic)[None, None],
        torch.zeros(1, 2),
        margin=32,
    )[0, 0].numpy()
    halo_px = 2 * deployed.spec.halo
    inside = (slice(halo_px, -halo_px),) * 2
    assert np.abs(deployed(mosaic) - validated)[inside].max() > 0.01  # one pass is something else
    np.testing.assert_allclose(deployed(mosaic, ensemble=True)[inside], validated[inside], atol=2e-6)
