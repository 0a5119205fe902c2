"""Blocks that have died are left out of the model file; blocks that are merely young are not."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file

from sk_deploy.model_file import read_model
from sk_search.adopt import adopt
from sk_search.config import NetConfig, RunConfig
from sk_search.distil import distil, load_network
from sk_search.export import export
from sk_search.finetune import finetune
from sk_search.idle import LIMIT, leave_out_idle
from sk_search.layers import Block
from sk_search.nets import build_network, build_supernet, superconvs
from sk_search.presets import tiny
from sk_search.proof import example, run_onnx
from sk_search.search import search
from sk_search.superkernel import Choice

NET = NetConfig(widths=(16, 16, 16), blocks=2, kernels=(1, 3), round_to=8)


def network(config: RunConfig) -> torch.nn.Module:
    """Fixed, its blocks and its tail as open as after a training."""
    torch.manual_seed(0)
    places = superconvs(build_supernet(config.net, config.structure))
    net = build_network(config.net, {name: Choice(3, tuple(range(16))) for name in places})
    torch.nn.init.normal_(net.tail.weight, std=0.1)
    for module in net.modules():
        if isinstance(module, Block):
            torch.nn.init.constant_(module.alpha, 0.5)
    return net


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Searched and distilled."""
    train = replace(tiny().search, steps=4, batch=2, validate_every=4, validation_patches=2)
    small = replace(NET, widths=(16, 16))
    config = replace(tiny(), scenes=8, net=small, search=train, finetune=replace(train, ema=0.99))
    search(tmp_path / "run", config)
    distil(tmp_path / "run")
    return tmp_path / "run"


def kill(block: Block) -> None:
    torch.nn.init.constant_(block.conv2.bias, -1e4)


def kill_saved(path: Path) -> None:
    """bottom.0: it changes nothing any more."""
    weights = load_file(path)
    weights["bottom.0.conv2.bias"].fill_(-1e4)
    weights["bottom.0.out.bias"].zero_()
    save_file(weights, path)


def test_dead_blocks_are_found_and_others_stay() -> None:
    config = replace(tiny(), net=NET)
    net = network(config)
    torch.nn.init.zeros_(net.encoder[0][0].alpha)  # it changes nothing, but it can learn
    kill(net.bottom[1])
    torch.nn.init.zeros_(net.bottom[1].out.bias)
    kill(net.decoder[1][0])  # dead, but its bias still shifts what passes
    torch.nn.init.constant_(net.decoder[1][0].out.bias, 1.0)
    planes, noise = example(2, 32)
    with torch.no_grad():
        expected = net.eval()(planes, noise)
        idle, change = leave_out_idle(net, config)
        assert idle == ["bottom.1"]
        assert change == 0.0 < LIMIT
        assert torch.equal(net(planes, noise), expected)
    assert isinstance(net.decoder[1][0], Block)


def test_training_tells_of_a_block_that_dies(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    kill_saved(run / "distilled" / "best.safetensors")
    finetune(run, steps=8)
    told = [record.getMessage() for record in caplog.records if "has died" in record.getMessage()]
    assert len(told) == 1  # of three validations
    assert told[0].startswith("bottom.0 ")


def test_a_model_without_them_is_trained_on_without_them(run: Path, tmp_path: Path) -> None:
    whole = export(run, tmp_path / "whole.onnx")
    kill_saved(run / "finetuned" / "best.safetensors")
    spec = export(run, tmp_path / "less.onnx")
    assert "left_out" not in whole.genotype
    assert spec.genotype["left_out"] == ["bottom.0"]
    assert spec.parity["idle_left_out"] <= LIMIT
    assert spec.macs_per_mp == spec.genotype["macs_per_mp"] < whole.macs_per_mp
    assert spec.parameters < whole.parameters
    assert read_model(tmp_path / "less.onnx")[1] == spec

    adopt(tmp_path / "less.onnx", tmp_path / "adopted")
    net = load_network(tmp_path / "adopted", "distilled").eval()
    assert sum(p.numel() for p in net.parameters()) == spec.parameters
    planes, noise = example(2, 32)
    with torch.no_grad():
        ours = net(planes, noise).numpy()
    np.testing.assert_allclose(ours, run_onnx(onnx.load(tmp_path / "less.onnx"), planes, noise), atol=1e-5)
