"""Blocks taken out of an adopted network, kernels enlarged, levels deepened."""

import json
from pathlib import Path

import pytest
import torch
from command_line import invoke, succeed

from sk_deploy.errors import ConfigError
from sk_deploy.model_file import read_model
from sk_deploy.models import find_model
from sk_search.adopt import adopt
from sk_search.distil import load_network
from sk_search.layers import Block
from sk_search.nets import leave_out
from sk_search.proof import example, relative_difference

pytestmark = pytest.mark.usefixtures("adopted_for_seconds")
of_one_architecture = pytest.mark.parametrize("made", ["compact-unet"], indirect=True)
"""What is about the names of blocks is alike in all."""


def test_a_block_is_taken_out(made: Path, tmp_path: Path) -> None:
    adopt(made, tmp_path / "whole")
    adopt(made, tmp_path / "less", without=("bottom.0",))
    less, expected = (load_network(tmp_path / name, "distilled").eval() for name in ("less", "whole"))
    leave_out(expected, ["bottom.0"])
    planes, noise = example(2, 64)
    with torch.no_grad():
        assert torch.equal(less(planes, noise), expected(planes, noise))
    assert json.loads((tmp_path / "less" / "genotype.json").read_text())["left_out"] == ["bottom.0"]
    with pytest.raises(ConfigError, match=r"no block bottom\.1: it has encoder\.0\.0, bottom\.0, decoder"):
        adopt(made, tmp_path / "neither", without=("bottom.1",))
    assert not (tmp_path / "neither").exists()


def test_an_enlarged_kernel_changes_nothing_at_first(made: Path, tmp_path: Path) -> None:
    genotype = read_model(made)[1].genotype
    small = next(e["name"] for e in genotype["superkernels"] if e["kernel"] == min(e["kernels"]))
    large = next(e["name"] for e in genotype["superkernels"] if e["kernel"] == max(e["kernels"]))
    adopt(made, tmp_path / "before")
    succeed("finetune", made, "--out", tmp_path / "after", "--enlarge", small, "--steps", 1)
    before, after = (load_network(tmp_path / name, "distilled").eval() for name in ("before", "after"))
    planes, noise = example(2, 64)
    with torch.no_grad():
        assert relative_difference(after(planes, noise).numpy(), before(planes, noise).numpy()) <= 1e-6
    grown = json.loads((tmp_path / "after" / "genotype.json").read_text())
    assert grown["enlarged"] == [small]
    assert grown["macs_per_mp"] > genotype["macs_per_mp"]
    (entry,) = (e for e in grown["superkernels"] if e["name"] == small)
    assert entry["kernel"] == entry["kernels"][1]
    assert entry["probability"] == entry["kernel_probabilities"][1]
    succeed("export", tmp_path / "after", tmp_path / "after.onnx")
    exported = read_model(tmp_path / "after.onnx")[1]
    assert exported.genotype["superkernels"] == grown["superkernels"]
    assert exported.macs_per_mp == grown["macs_per_mp"]
    for name, reason in (
        (large, "has the largest kernel"),
        ("bottom.7.conv1", "has no superkernel bottom.7"),
    ):
        with pytest.raises(ConfigError, match=reason):
            adopt(made, tmp_path / "neither", enlarge=(name,))
    assert not (tmp_path / "neither").exists()


def test_a_block_more_is_half_of_the_last(made: Path, tmp_path: Path) -> None:
    adopt(made, tmp_path / "before")
    levels = [word for level in ("encoder.0", "bottom", "decoder.0") for word in ("--deepen", level)]
    succeed("finetune", made, "--out", tmp_path / "after", *levels, "--steps", 1)
    before, after = (load_network(tmp_path / name, "distilled").eval() for name in ("before", "after"))
    planes, noise = example(2, 64)
    for place in ("encoder.0.0", "bottom.0", "decoder.0.0"):
        last = dict(before.get_submodule(place).state_dict())
        last["alpha"] = last["alpha"] / 2
        for half in (place, f"{place[:-1]}1"):
            state = after.get_submodule(half).state_dict()
            assert all(torch.equal(state[name], last[name]) for name in last)
    with torch.no_grad():
        expected = before(planes, noise).numpy()
        changed = relative_difference(after(planes, noise).numpy(), expected)
        leave_out(before, ["encoder.0.0", "bottom.0", "decoder.0.0"])
        assert changed < 0.2 * relative_difference(before(planes, noise).numpy(), expected)

    genotype = read_model(made)[1].genotype
    deeper = json.loads((tmp_path / "after" / "genotype.json").read_text())
    assert deeper["added"] == ["encoder.0.1", "bottom.1", "decoder.0.1"]
    assert deeper["net"]["blocks"] == genotype["net"]["blocks"] + 1
    searched, added = deeper["superkernels"][:6], deeper["superkernels"][6:]
    assert searched == genotype["superkernels"]
    assert {entry["name"].rpartition(".")[0] for entry in added} == set(deeper["added"])
    assert [{**entry, "name": ""} for entry in added] == [{**entry, "name": ""} for entry in searched]
    succeed("export", tmp_path / "after", tmp_path / "after.onnx")
    exported = read_model(tmp_path / "after.onnx")[1]
    assert exported.macs_per_mp == deeper["macs_per_mp"] > genotype["macs_per_mp"]
    assert "added" in invoke("show", tmp_path / "after.onnx").output
    adopt(tmp_path / "after.onnx", tmp_path / "again", deepen=("encoder.0", "bottom", "decoder.0"))
    twice = json.loads((tmp_path / "again" / "genotype.json").read_text())
    assert twice["added"] == [*deeper["added"], "encoder.0.2", "bottom.2", "decoder.0.2"]


@of_one_architecture
def test_one_level_is_deepened_alone_and_again(made: Path, tmp_path: Path) -> None:
    adopt(made, tmp_path / "once", deepen=("decoder.0",))
    succeed("export", tmp_path / "once", tmp_path / "once.onnx")
    adopt(tmp_path / "once.onnx", tmp_path / "more", deepen=("decoder.0", "bottom", "bottom"))
    genotype = json.loads((tmp_path / "more" / "genotype.json").read_text())
    assert genotype["added"] == ["decoder.0.1", "decoder.0.2", "bottom.1", "bottom.2"]
    assert "left_out" not in genotype
    net = load_network(tmp_path / "more", "distilled")
    blocks = {name: module.alpha.item() for name, module in net.named_modules() if isinstance(module, Block)}
    assert list(blocks) == [
        "encoder.0.0", "bottom.0", "bottom.1", "bottom.2", "decoder.0.0", "decoder.0.1", "decoder.0.2",
    ]  # fmt: skip
    assert blocks["bottom.0"] == pytest.approx(2 * blocks["bottom.1"])
    assert blocks["bottom.1"] == blocks["bottom.2"]


@of_one_architecture
def test_a_block_that_was_left_out_keeps_its_name(made: Path, tmp_path: Path) -> None:
    adopt(made, tmp_path / "once", deepen=("bottom",), without=("bottom.1",))
    succeed("export", tmp_path / "once", tmp_path / "once.onnx")
    adopt(tmp_path / "once.onnx", tmp_path / "twice", deepen=("bottom",))
    genotype = json.loads((tmp_path / "twice" / "genotype.json").read_text())
    assert (genotype["left_out"], genotype["added"]) == (["bottom.1"], ["bottom.1", "bottom.2"])
    net = load_network(tmp_path / "twice", "distilled")
    assert [isinstance(module, Block) for module in net.bottom] == [True, False, True]


def test_a_level_without_blocks_is_not_deepened(tmp_path: Path) -> None:
    """nano has lost both of encoder.1."""
    with pytest.raises(ConfigError, match=r"no blocks at level encoder.1: it has some at encoder.0, bottom"):
        adopt("nano", tmp_path / "run", deepen=("encoder.1",))
    assert not (tmp_path / "run").exists()
    adopt("nano", tmp_path / "run", deepen=("encoder.0", "bottom", "decoder.0", "decoder.1"))
    genotype = json.loads((tmp_path / "run" / "genotype.json").read_text())
    before = read_model(find_model("nano"))[1].genotype
    assert genotype["left_out"] == before["left_out"]
    assert genotype["added"] == [*before["added"], "encoder.0.2", "bottom.3", "decoder.0.2", "decoder.1.2"]
    net = load_network(tmp_path / "run", "distilled")
    assert not any(isinstance(module, Block) for module in net.encoder[1].modules())
