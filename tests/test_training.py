"""The loop: it learns, it resumes bit for bit, it stops; and a whole run down to an ONNX file."""

import json
import shutil
import signal
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file
from training_runs import Interrupted, assert_same_run, interrupt_at, small_config

from sk_deploy import Denoiser, NoiseProfile
from sk_deploy.errors import ConfigError, ModelError
from sk_deploy.spec import METADATA_KEY, ModelSpec
from sk_search import proof
from sk_search.data import load_data, validation_set
from sk_search.dead_leaves import dead_leaves
from sk_search.distil import distil, load_network
from sk_search.evaluate import psnr_db, self_ensemble
from sk_search.export import export
from sk_search.finetune import finetune
from sk_search.loss import denoising_loss
from sk_search.record import read_record
from sk_search.search import build, search
from sk_search.training import Trainer
from sk_search.validation import validate


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A run whose SkipInit scalars are wide open: after twelve steps they would hide every difference."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    search(run, small_config())
    weights = load_file(run / "best.safetensors")
    for name in weights:
        if name.endswith("alpha"):
            weights[name].fill_(0.5)
    save_file(weights, run / "best.safetensors")
    return run


@pytest.mark.parametrize("killed_at", [2, 6, 10])
def test_resumed_search_is_bit_identical(searched, tmp_path, killed_at):
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        search(run, small_config(), interrupt_at(killed_at))
    search(run, None)
    assert_same_run(searched, run)


def test_ctrl_c_saves_after_the_step_and_resumes_bit_identical(searched, tmp_path):
    run = tmp_path / "run"

    def report(record):
        if record["step"] == 6:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        search(run, small_config(), report)
    assert torch.load(run / "last.pt", weights_only=True)["step"] == 6
    search(run, None)
    assert_same_run(searched, run)


@pytest.mark.parametrize("name", ["last.pt", "config.json"])
def test_a_damaged_run_is_one_line(searched, tmp_path, name):
    run = shutil.copytree(searched, tmp_path / "run", ignore=shutil.ignore_patterns("tensorboard"))
    (run / name).write_bytes((run / name).read_bytes()[:100])
    with pytest.raises(ConfigError, match=name):
        search(run, None)


def test_damaged_weights_are_one_line(searched, tmp_path):
    run = shutil.copytree(
        searched, tmp_path / "run", ignore=shutil.ignore_patterns("tensorboard", "f*", "d*")
    )
    (run / "best.safetensors").write_bytes(b"torn")
    with pytest.raises(ConfigError, match=r"best\.safetensors"):
        distil(run)


def test_a_run_is_not_overwritten(searched):
    with pytest.raises(ConfigError, match="--resume"):
        search(searched, small_config())


def test_a_search_measures_what_would_be_kept(tmp_path):
    """An undecided supernet's argmax misses a tight target, what the budget strategy keeps of it does not."""
    config = small_config(steps=8)
    config = replace(config, structure=replace(config.structure, learning_rate=0.0))
    run = tmp_path / "run"
    _, structure = build(config, None, torch.device("cpu"))
    target = 0.8 * float(structure.cost(chosen=True).macs_per_mp)  # of the argmax, which does not change
    search(run, replace(config, structure=replace(config.structure, target_macs_per_mp=target)))
    rows = read_record(run).search.rows
    assert all(row["feasible"] for row in rows if row["kind"] == "validation")
    distil(run)
    data = load_data(config, torch.device("cpu"))
    pairs = validation_set(data.validation, config.search.validation_patches)
    facts = validate(load_network(run, "distilled"), pairs, 2, 4 * config.net.multiple)
    best = read_record(run).search.best
    assert facts["psnr_db"] == pytest.approx(best["psnr_db"], abs=1e-3)


def test_early_stopping(tmp_path):
    config = small_config(steps=100, validate_every=1, patience=2, learning_rate=0.0, schedule="constant")
    config = replace(config, structure=replace(config.structure, anneal_steps=1, learning_rate=0.0))
    search(tmp_path / "run", config)
    assert torch.load(tmp_path / "run" / "last.pt", weights_only=True)["step"] == 3


def grey_and_noisy():
    """A grey patch at two levels of noise: clean, noise of mean 0 in each plane, its levels."""
    clean = torch.full((2, 4, 32, 32), 0.5)
    levels = torch.tensor([[1e-3, 1e-4], [2e-2, 1e-3]])
    sigma = (levels[:, :1] * 0.5 + levels[:, 1:]).sqrt().view(2, 1, 1, 1)
    noise = sigma * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    return clean, noise - noise.mean((2, 3), keepdim=True), levels


def test_loss_is_the_gain_in_decibel():
    clean, noise, levels = grey_and_noisy()
    assert float(denoising_loss(clean + noise, clean, levels)) == pytest.approx(0, abs=0.3)
    assert float(denoising_loss(clean + noise / 10**0.5, clean, levels)) == pytest.approx(-10, abs=0.2)


def test_loss_sees_a_shift_that_noise_hides():
    """By three times what noise leaves of a plane's mean: a part in a hundred of the remaining error."""
    clean, noise, levels = grey_and_noisy()
    shift = 3 / 32 * (levels[:, 0] * 0.5 + levels[:, 1]).sqrt().view(2, 1, 1, 1)
    even, shifted = (clean + noise + s for s in (0 * shift, shift))
    assert float((shifted - clean).square().mean() / noise.square().mean()) < 1.02
    assert float(denoising_loss(shifted, clean, levels) - denoising_loss(even, clean, levels)) > 0.25


def test_self_ensemble_keeps_the_bayer_phase():
    """A network that scales each colour by its own factor gives the same result under every transform."""
    scale = torch.tensor([1.0, 2.0, 2.0, 3.0]).view(1, 4, 1, 1)
    mosaic = torch.rand(1, 1, 16, 24)
    ensemble = self_ensemble(lambda planes, noise: planes * scale, mosaic, torch.zeros(1, 2), margin=4)
    expected = mosaic.clone()
    expected[..., 0::2, 1::2] *= 2
    expected[..., 1::2, 0::2] *= 2
    expected[..., 1::2, 1::2] *= 3
    torch.testing.assert_close(ensemble, expected)


def test_psnr():
    x = torch.full((1, 1, 4, 4), 0.6)
    assert float(psnr_db(x, x - 0.1)) == pytest.approx(20, abs=1e-3)


def test_finetuning_starts_from_the_distilled_weights_and_keeps_them_safe(searched):
    distil(searched)
    finetune(searched)
    with pytest.raises(ConfigError, match="trained already"):
        finetune(searched)
    weights = load_file(searched / "finetuned" / "best.safetensors")
    before = load_file(searched / "distilled" / "best.safetensors")
    assert weights.keys() == before.keys()
    assert any(not torch.equal(weights[name], before[name]) for name in weights)


def test_export_runs_what_is_missing_and_equals_the_network(searched, tmp_path):
    target = tmp_path / "model.onnx"
    spec = export(searched, target, licence="CC0-1.0")
    session = onnxruntime.InferenceSession(str(target), providers=["CPUExecutionProvider"])
    assert ModelSpec.from_json(session.get_modelmeta().custom_metadata_map[METADATA_KEY]) == spec
    assert {i.name: i.shape for i in session.get_inputs()} == {
        "input": ["batch", 4, "height", "width"],
        "noise": ["batch", 2],
    }
    assert session.get_outputs()[0].shape == ["batch", 4, "height", "width"]
    net = load_network(searched, "finetuned").eval()
    for shape in ((1, 4, 16, 16), (3, 4, 24, 40)):
        x = torch.rand(shape)
        noise = torch.full((shape[0], 2), 1e-3)
        with torch.no_grad():
            expected = net(x, noise).numpy()
        (y,) = session.run(None, {"input": x.numpy(), "noise": noise.numpy()})
        assert np.abs(y - expected).max() < 1e-5
    parity = json.loads((searched / "export" / "parity.json").read_text())
    assert parity["supernet_distilled_float64"] <= 1e-12
    assert 0 < spec.halo <= 64
    assert spec.halo % spec.multiple == 0


def test_tiles_with_the_measured_halo_equal_the_whole(searched, tmp_path):
    """Within a quarter of a 14-bit step, on an exported network."""
    target = tmp_path / "model.onnx"
    spec = export(searched, target)
    clean = dead_leaves(1, 256, seed=5).float().mean(1)[0].numpy()
    noise = NoiseProfile(2e-3, 1e-5)
    rng = np.random.default_rng(0)
    noisy = (clean + rng.normal(size=clean.shape) * np.sqrt(noise.shot * clean + noise.read)).astype(
        np.float32
    )
    whole = Denoiser.from_file(target, provider="cpu", tile=512)(noisy, noise)
    tiled = Denoiser.from_file(target, provider="cpu", tile=2 * (2 * spec.halo + 8))(noisy, noise)
    assert np.abs(whole - noisy).max() > 1e-3
    assert 0 < np.abs(tiled - whole).max() <= 0.25 / (2**14 - 1)


def test_a_failed_gate_refuses_the_export(searched, tmp_path, monkeypatch):
    if not (searched / "genotype.json").exists():
        distil(searched)
    real = proof.load_network

    def damaged(run, stage):
        net = real(run, stage)
        if stage == "distilled":
            with torch.no_grad():
                net.tail.bias += 1e-3
        return net

    monkeypatch.setattr(proof, "load_network", damaged)
    with pytest.raises(ModelError, match="not exported: supernet_distilled"):
        export(searched, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_export_of_nothing_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"not a run"):
        export(tmp_path / "absent", tmp_path / "model.onnx")


class OneBatch:
    """Always the same noisy patches; `framed` has other clean ones in a frame of 4 pixels."""

    device = torch.device("cpu")

    def __init__(self, framed):
        clean = torch.full((2, 1, 32, 32), 0.5)
        self.noisy = clean + 0.05 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        self.clean = torch.ones_like(clean) if framed else clean.clone()
        self.clean[..., 4:-4, 4:-4] = 0.5

    def sample(self, batch, generator):
        return self.clean, self.noisy, torch.tensor([[1e-3, 1e-4]]).expand(batch, -1)


class OneConvolution(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, planes, noise):
        return self.conv(planes)


@pytest.mark.parametrize(("margin_px", "counts"), [(0, True), (2, True), (4, False), (6, False)])
def test_what_lies_in_the_margin_is_neither_learnt_nor_measured(tmp_path, margin_px, counts):
    config = small_config(margin_px=margin_px, compile=False)
    losses, facts = [], []
    for framed in (False, True):
        torch.manual_seed(0)
        net = OneConvolution()
        batches = OneBatch(framed)
        pairs = validation_set(batches, 2, margin_px)
        trainer = Trainer(
            "finetune", tmp_path, net, config.search, batches, pairs, mirrored_px=8, seed=0, settings={}
        )
        losses.append(trainer._loss(batches).item())
        facts.append(validate(net, pairs, 2, 8))
    assert (losses[0] != losses[1]) == counts
    assert all((facts[0][name] != facts[1][name]) == counts for name in facts[0])


def test_a_margin_that_leaves_nothing_is_refused():
    with pytest.raises(ConfigError, match="margin_px 16 leaves nothing of a patch of 32 sensor pixels"):
        small_config(margin_px=16)
    with pytest.raises(ConfigError, match="margin_px is 3: expected an even number"):
        small_config(margin_px=3)
