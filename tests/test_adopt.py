"""A model file becomes a run again: the same network, trained on, exported with its proofs."""

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from command_line import invoke, succeed

from sk_deploy.errors import ConfigError, ModelError, SkdnError
from sk_deploy.model_file import read_model
from sk_deploy.spec import METADATA_KEY
from sk_search.adopt import adopt
from sk_search.dead_leaves import dead_leaves
from sk_search.distil import load_network
from sk_search.finetune import finetune
from sk_search.layers import Block, ConvReLU
from sk_search.proof import example, relative_difference, run_onnx

pytestmark = pytest.mark.usefixtures("adopted_for_seconds")


def test_the_adopted_network_is_the_model(made: Path, tmp_path: Path) -> None:
    adopt(made, tmp_path / "run")
    net = load_network(tmp_path / "run", "distilled").eval()
    planes, noise = example(2, 64)
    with torch.no_grad():
        ours = net(planes, noise).numpy()
    theirs = run_onnx(onnx.load(made), planes, noise)
    assert relative_difference(ours, theirs) <= 1e-5
    assert np.abs(ours - planes.numpy()).max() > 1e-3  # it denoises, so the comparison says something


def test_a_model_is_trained_on_and_exported(made: Path, tmp_path: Path) -> None:
    (tmp_path / "photographs").mkdir()
    for i, scene in enumerate(dead_leaves(2, 512, seed=0)):
        picture = (255 * scene.clamp(0, 1).permute(1, 2, 0)).byte().numpy()
        assert cv2.imwrite(str(tmp_path / "photographs" / f"{i}.png"), picture)
    source = ["--data", tmp_path / "photographs"]
    less = ["--without", "bottom.0"]
    out = succeed("finetune", made, "--out", tmp_path / "mine", *source, *less, "--steps", 2)
    assert f"skdn export {tmp_path / 'mine'}" in out
    succeed("finetune", tmp_path / "mine", "--resume", "--steps", 4)
    succeed("export", tmp_path / "mine", tmp_path / "second.onnx")
    first, second = (read_model(path)[1] for path in (made, tmp_path / "second.onnx"))
    assert second.genotype["superkernels"] == first.genotype["superkernels"]
    assert second.genotype["adopted"] == "first"
    assert second.genotype["left_out"] == ["bottom.0"]
    assert second.genotype["macs_per_mp"] < first.genotype["macs_per_mp"]
    for name in ("supernet_distilled_float64", "supernet_distilled_float32"):
        assert second.parity[name] == first.parity[name]
    config = json.loads((tmp_path / "mine" / "config.json").read_text())["config"]
    assert config["data"] == [str(tmp_path / "photographs")]


def test_learning_rate_and_patch_are_the_callers(made: Path, tmp_path: Path) -> None:
    mine, chosen = tmp_path / "mine", ("--learning-rate", 0.004, "--patch", 48)
    succeed("finetune", made, "--out", mine, *chosen, "--steps", 1)
    config = json.loads((mine / "finetuned" / "config.json").read_text())
    assert (config["learning_rate"], config["patch_px"]) == (0.004, 48)
    with pytest.raises(ConfigError, match=r"begun with learning_rate 0\.004, not 0\.002"):
        finetune(mine, learning_rate=0.002, resume=True)
    with pytest.raises(ConfigError, match=r"begun with patch_px 48, not 32"):
        finetune(mine, patch_px=32, resume=True)
    succeed("finetune", mine, "--resume", "--steps", 2)


@pytest.mark.parametrize("rate", [1e-30, 0.004])
def test_a_training_that_gained_nothing_says_so(made: Path, tmp_path: Path, rate: float) -> None:
    mine = tmp_path / "mine"
    result = invoke("finetune", made, "--out", mine, "--learning-rate", rate, "--steps", 2)
    rows = [json.loads(line) for line in (mine / "finetuned" / "metrics.jsonl").read_text().splitlines()]
    start, *later = (row["psnr_db"] for row in rows if row["kind"] == "validation")
    gained = max(later) > start
    assert not (gained and rate == 1e-30)
    assert ("no validation was better than the start's" in result.output) == (not gained)


@pytest.mark.parametrize("made", ["compact-unet"], indirect=True)
def test_the_last_weights_are_exported_where_asked_for(made: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    succeed("finetune", made, "--out", mine, "--learning-rate", 1e-30, "--steps", 1)
    state = torch.load(mine / "finetuned" / "last.pt", weights_only=True)
    for part in ("net", "kept"):
        if state[part]:
            state[part]["tail.bias"] += 1.0
    torch.save(state, mine / "finetuned" / "last.pt")
    planes, noise = example(2, 64)
    outputs = []
    for name, last in (("best", []), ("last", ["--last"])):
        succeed("export", mine, tmp_path / f"{name}.onnx", *last)
        outputs.append(run_onnx(onnx.load(tmp_path / f"{name}.onnx"), planes, noise))
    expected = run_onnx(onnx.load(made), planes, noise)
    with torch.no_grad():
        trained = load_network(mine, "finetuned", last=True).eval()(planes, noise).numpy()
    assert relative_difference(outputs[0], expected) <= 1e-5
    assert relative_difference(outputs[1], trained) <= 1e-5
    assert np.abs(outputs[1] - expected).max() > 1e-3


@pytest.mark.parametrize("made", ["skipinit-unet"], indirect=True)
def test_a_network_without_a_mask_gets_none(made: Path, tmp_path: Path) -> None:
    adopt(made, tmp_path / "mine")
    with pytest.raises(SkdnError, match="a skipinit-unet conditioned by anscombe masks nothing"):
        invoke("export", tmp_path / "mine", tmp_path / "masked.onnx", "--masked-from", 0.5)
    assert not (tmp_path / "masked.onnx").exists()
    assert not (tmp_path / "mine" / "finetuned").exists()  # refused before any training


@pytest.mark.parametrize("made", ["compact-unet"], indirect=True)
def test_a_mask_of_another_contrast_is_exported_and_trained_on(made: Path, tmp_path: Path) -> None:
    mine, masked = tmp_path / "mine", tmp_path / "masked.onnx"
    succeed("finetune", made, "--out", mine, "--learning-rate", 1e-30, "--steps", 1)
    succeed("export", mine, masked, "--masked-from", 0.5)
    assert read_model(masked)[1].genotype["net"]["masked_from"] == 0.5
    planes, noise = example(2, 64)
    expected = load_network(mine, "finetuned").eval()
    whole = expected(planes, noise).detach().numpy()
    expected.mask.half = 0.5
    output = run_onnx(onnx.load(masked), planes, noise)
    assert relative_difference(output, expected(planes, noise).detach().numpy()) <= 1e-5
    assert np.abs(output - whole).max() > 1e-4
    adopt(masked, tmp_path / "again")
    refused = invoke("export", masked, tmp_path / "other.onnx", "--masked-from", 9)
    assert refused.exit_code == 2
    assert "has its mask already: --masked-from is for a run" in refused.output


def test_patches_that_do_not_fit_are_refused(made: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    adopt(made, mine)
    with pytest.raises(ConfigError, match=r"patch_px 50: a U-Net of depth 1 needs a multiple of \d+"):
        finetune(mine, patch_px=50)
    config = json.loads((mine / "config.json").read_text())
    config["config"]["finetune"]["margin_px"] = 16
    (mine / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="margin_px 16 leaves nothing of a patch of 32 sensor pixels"):
        finetune(mine, patch_px=32)
    assert not (mine / "finetuned").exists()


@torch.no_grad()
def test_what_training_made_large_and_small_is_balanced_again() -> None:
    """In one function of three convolutions, whose last would be lost in the first step of Muon."""
    torch.manual_seed(0)
    block = Block("block", 16, lambda name, into, filters: ConvReLU(into, filters, 3), 1, "chain")
    assert block.alpha is not None
    block.alpha.fill_(0.003)
    convs = (block.conv1, block.conv2, block.out)
    fresh = [float(conv.weight.square().mean()) for conv in convs]
    block.conv1.weight.mul_(30)
    block.conv2.weight.mul_(20)
    block.conv2.bias.mul_(5)
    x = torch.rand(2, 16, 12, 12)
    expected = block(x)
    block.out.weight.mul_(block.alpha)  # what a model file holds
    block.out.bias.mul_(block.alpha)
    block.balance()
    torch.testing.assert_close(block(x), expected)
    assert block.alpha == 1
    grown = [float(conv.weight.square().mean()) / old for conv, old in zip(convs, fresh, strict=True)]
    assert grown == pytest.approx([(30 * 20 * 0.003) ** (2 / 3)] * 3, rel=0.05)


def test_a_run_keeps_its_place_and_data(made: Path, tmp_path: Path) -> None:
    adopt(made, tmp_path)
    for option in (
        ["--out", tmp_path / "other"],
        ["--data", "dead-leaves"],
        ["--without", "bottom.0"],
        ["--enlarge", "x"],
        ["--deepen", "bottom"],
    ):
        result = invoke("finetune", tmp_path, *option)
        assert result.exit_code == 2
        assert "are for a MODEL" in result.output
    assert "give its folder" in invoke("finetune", made, "--resume").output
    with pytest.raises(ConfigError, match="holds a run already"):
        adopt(made, tmp_path)


@pytest.mark.parametrize(
    ("facts", "complaint"),
    [
        ({"precision": "float16"}, "only float32 models"),
        ({"pooling": "64×64 packed pixels"}, "only float32 models"),
        ({"genotype": {}}, "does not say how its network is built"),
    ],
)
def test_what_cannot_be_adopted(made: Path, tmp_path: Path, facts: dict, complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint):
        adopt(rewritten(made, tmp_path, facts), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_graph_of_another_network_is_refused(made: Path, tmp_path: Path) -> None:
    genotype = read_model(made)[1].genotype
    genotype["superkernels"][0]["kernel"] = 8 - genotype["superkernels"][0]["kernel"]  # 3 for 5, 5 for 3
    with pytest.raises(ModelError, match="not what its genotype describes"):
        adopt(rewritten(made, tmp_path, {"genotype": genotype}), tmp_path / "run")


def test_a_graph_with_other_weights_outside_its_convolutions_is_refused(made: Path, tmp_path: Path) -> None:
    """Say, of a version whose front end was another: its convolutions fit, its results do not."""
    proto = onnx.load(made)
    for tensor in proto.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and not tensor.dims:
            number = onnx.numpy_helper.to_array(tensor) * np.float32(2)
            tensor.CopyFrom(onnx.numpy_helper.from_array(number.astype(np.float32), tensor.name))
    onnx.save(proto, tmp_path / "other.onnx")
    with pytest.raises(ModelError, match="differs by"):
        adopt(tmp_path / "other.onnx", tmp_path / "run")


def rewritten(model: Path, folder: Path, facts: dict) -> Path:
    """The model with other facts about itself."""
    proto = onnx.load(model)
    for entry in proto.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = json.dumps({**json.loads(entry.value), **facts})
    onnx.save(proto, folder / "other.onnx")
    return folder / "other.onnx"
