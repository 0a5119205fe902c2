"""A step of training keeps the device busy: the host never waits for it, and nothing is compiled twice."""

from dataclasses import replace

import pytest
import torch
from torch._dynamo.utils import counters
from torch.utils._python_dispatch import TorchDispatchMode
from training_runs import small_config

from sk_search.checkpoint import settings_of
from sk_search.config import BASELINES, MODES, TYPES
from sk_search.data import load_data, validation_set
from sk_search.mosaics import pack
from sk_search.nets import build_supernet
from sk_search.structure import Structure
from sk_search.training import Trainer

SEARCHED = [kind for kind in TYPES if kind not in BASELINES]


def trainer_of(kind, folder, mode="full", device="cpu"):
    config = small_config(compile=False)
    structure = replace(config.structure, type=kind, mode=mode, frozen_share=0.0, target_macs_per_mp=1e9)
    config = replace(config, structure=structure)
    torch.manual_seed(0)
    data = load_data(config, torch.device(device))
    net = build_supernet(config.net, structure).to(device)
    return Trainer(
        "search",
        folder,
        net,
        config.search,
        data.train,
        validation_set(data.validation, 2),
        mirrored_px=8,
        seed=0,
        settings=settings_of(config, config.search),
        structure=Structure(net, structure),
    )


class Waits(TorchDispatchMode):
    """Remembers the operations for which a CUDA device would make the host wait."""

    names = (
        "_local_scalar_dense",
        "lift_fresh",
        "nonzero",
        "masked_select",
        "_unique2",
        "equal",
        "is_nonzero",
    )

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in self.names:
            self.seen.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", SEARCHED)
def test_a_step_reads_nothing_back(tmp_path, monkeypatch, kind):
    """A stand-in for the same test on CUDA below: what it records also runs on a CPU."""
    trainer = trainer_of(kind, tmp_path)
    trainer._train_step()  # constants are made once
    for optimiser in [*trainer.optimisers, trainer.structure.optimiser]:
        if isinstance(
            optimiser, torch.optim.Adam
        ):  # reads its step count, which on CUDA it keeps on the host
            monkeypatch.setattr(optimiser, "step", lambda: None)
    with Waits() as waits:
        trainer._train_step()
    assert waits.seen == []


def test_the_stand_in_notices():
    with Waits() as waits:
        torch.tensor(1.0).item()
    assert waits.seen == ["aten.lift_fresh.default", "aten._local_scalar_dense.default"]


@pytest.mark.gpu
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", SEARCHED)
def test_a_step_on_cuda_never_waits(tmp_path, kind, mode):
    trainer = trainer_of(kind, tmp_path, mode, "cuda")
    for _ in range(2):
        trainer._train_step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            trainer._train_step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch.compile hides it, unless it is an error
@pytest.mark.parametrize(("kind", "mode"), [("joint", "full"), ("filterwise-attention", "separate")])
def test_compiled_once_for_all_samples(tmp_path, kind, mode):
    """New weights of a superkernel are an input of the compiled network: no graph break, no recompilation."""
    trainer = trainer_of(kind, tmp_path, mode)
    torch._dynamo.reset()
    counters.clear()
    compiled = torch.compile(trainer.net, backend="aot_eager", dynamic=False, fullgraph=True)
    generator = torch.Generator().manual_seed(0)
    _, noisy, levels = trainer.train.sample(2, generator)
    for step in range(4):
        trainer.structure.draw(step / 3, generator)
        output = compiled(pack(noisy), levels)
        output.sum().backward()
        torch.testing.assert_close(output, trainer.net(pack(noisy), levels))
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
    torch._dynamo.reset()
