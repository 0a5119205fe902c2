"""Two-level search: weights learn from one half of the scenes, the structure from the other."""

from dataclasses import replace

import pytest
import torch

from sk_search.config import MosaicConfig, NetConfig, StructureConfig
from sk_search.data import load_data, validation_set
from sk_search.nets import build_supernet
from sk_search.presets import tiny
from sk_search.structure import Structure
from sk_search.training import Trainer

CPU = torch.device("cpu")


def small_config(two_level):
    base = tiny()
    return replace(
        base,
        scenes=12,
        net=NetConfig(widths=(8, 8), kernels=(3, 5), growth=(0.5, 1.0), round_to=4),
        mosaic=MosaicConfig(patch_px=32),
        structure=StructureConfig(two_level=two_level),
        search=replace(base.search, steps=8, batch=2, validate_every=8, validation_patches=2, log_every=2),
    )


def trainer(tmp_path, two_level):
    config = small_config(two_level)
    torch.manual_seed(0)
    net = build_supernet(config.net, config.structure)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("alpha"):
                parameter.fill_(0.5)
        net.tail.weight.normal_(0, 0.1)  # at zero nothing before it would learn in the first step
    data = load_data(config, CPU)
    return Trainer(
        "search",
        tmp_path,
        net,
        config.search,
        data.train,
        validation_set(data.validation, 2),
        mirrored_px=8,
        seed=0,
        settings={},
        structure=Structure(net, config.structure),
        structure_data=data.structure,
    )


@pytest.mark.parametrize("blind", ["weights", "structure"])
def test_each_level_learns_from_its_own_scenes(tmp_path, monkeypatch, blind):
    """Where one level's scenes give no gradient, exactly that level stays as it is."""
    training = trainer(tmp_path, two_level=True)
    assert training.structure_data is not None
    training.step = 4  # beyond the frozen part
    real = Trainer._loss
    silent = training.train if blind == "weights" else training.structure_data

    def loss(self, batches):
        value = real(self, batches)
        return 0 * value if batches is silent else value

    monkeypatch.setattr(Trainer, "_loss", loss)
    monkeypatch.setattr("sk_search.optimisers._DECAY", 0.0)  # moves weights without a gradient too
    structural = {id(p) for p in training.structure.parameters()}
    before = {name: p.detach().clone() for name, p in training.net.named_parameters()}
    training._train_step()
    moved = {name for name, p in training.net.named_parameters() if not torch.equal(p, before[name])}
    logits = {name for name, p in training.net.named_parameters() if id(p) in structural}
    assert moved
    assert moved <= (logits if blind == "weights" else set(before) - logits)


def test_levels_learn_together_by_default(tmp_path):
    training = trainer(tmp_path, two_level=False)
    assert training.structure_data is None
    training.step = 4
    before = {name: p.detach().clone() for name, p in training.net.named_parameters()}
    training._train_step()
    assert all(not torch.equal(p, before[name]) for name, p in training.net.named_parameters())
