"""What a superkernel costs in training, as ratios within one run: `pytest -m bench -s`.

full: one masked convolution; separate: one for each kernel size; naive: the left side of eq. 5 as it is
written, one convolution for each kernel size and filter count. All against a plain network of the same
largest shape, whole training steps of the same trainer, interleaved, medians.
"""

import statistics
import time
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch.profiler import ProfilerActivity, profile

from sk_search.checkpoint import settings_of
from sk_search.cost import CostModel
from sk_search.data import load_data, validation_set
from sk_search.layers import SuperConvReLU
from sk_search.nets import build_network, build_supernet, superconvs
from sk_search.parallel import joined
from sk_search.presets import PRESETS
from sk_search.search import pick_device
from sk_search.structure import Structure
from sk_search.superkernel import Choice
from sk_search.training import Trainer


class NaiveSuperConvReLU(SuperConvReLU):
    """Σ over kernel sizes and filter counts of relu(conv(x, slice)) · share: n_k·n_f convolutions."""

    def forward(self, x):
        superkernel, total = self.superkernel, 0
        for k, row in zip(superkernel.kernels, superkernel.weights, strict=True):
            cut = (superkernel.max_kernel - k) // 2
            below = 0
            for count in superkernel.filters:  # the share of a count: what filter count-1 has beyond the next
                share = row[count - 1] - (row[count] if count < superkernel.max_filters else 0)
                weight = self.weight[:count, :, cut : cut + k, cut : cut + k]
                y = share * F.relu(F.conv2d(x, weight, self.bias[:count], padding=k // 2))
                total = total + F.pad(y, (0, 0, 0, 0, 0, superkernel.max_filters - count))
                below = count
            assert below == superkernel.max_filters
        return total


def supernet(config, mode):
    torch.manual_seed(0)
    structure = replace(config.structure, mode="separate" if mode == "separate" else "full")
    net = build_supernet(config.net, structure)
    if mode == "naive":
        for conv in superconvs(net).values():
            conv.__class__ = NaiveSuperConvReLU
    return net


def plain(config):
    """The network without superkernels, of the largest choice everywhere."""
    largest = {
        name: Choice(conv.superkernel.max_kernel, tuple(range(conv.superkernel.max_filters)))
        for name, conv in superconvs(supernet(config, "full")).items()
    }
    return build_network(config.net, largest)


def test_naive_sum_is_the_separate_treatment():
    config = replace(PRESETS["tiny"](), structure=replace(PRESETS["tiny"]().structure, mode="separate"))
    nets = [supernet(config, mode).double() for mode in ("separate", "naive")]
    for net in nets:
        for i, conv in enumerate(superconvs(net).values()):
            conv.superkernel.draw(1.0, torch.Generator().manual_seed(i))
            conv.superkernel.weights = conv.superkernel.weights.double()
        for name, parameter in net.named_parameters():
            if name.endswith("alpha"):
                parameter.data.fill_(0.5)
    x, noise = torch.rand(1, 4, 16, 16).double(), torch.full((1, 2), 1e-3).double()
    torch.testing.assert_close(nets[0](x, noise), nets[1](x, noise), rtol=0, atol=1e-12)


def trainer_of(net, config, data, folder, searched):
    net.to(data.train.device)
    return Trainer(
        "bench",
        folder,
        net,
        config.search,
        data.train,
        validation_set(data.validation, 1),
        mirrored_px=4 * config.net.multiple,
        seed=0,
        settings=settings_of(config, config.search),
        structure=Structure(net, config.structure) if searched else None,
    )


def wait(device):
    if device.type == "cuda":
        torch.cuda.synchronize()


def seconds(action, device):
    wait(device)
    start = time.perf_counter()
    action()
    wait(device)
    return time.perf_counter() - start


def peak_mb(action, device):
    """Of memory that the step allocates beyond what was there before it."""
    if device.type == "cuda":
        wait(device)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        action()
        wait(device)
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        action()
    events = (e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]")
    held = highest = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        highest = max(highest, held)
    return highest / 1e6


def matmul_flops(device):
    """The most that a large bfloat16 product reaches here."""
    a = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)
    a @ a
    return 2 * 8192**3 / min(seconds(lambda: a @ a, device) for _ in range(10))


@pytest.mark.bench
@pytest.mark.parametrize(("preset", "batch", "rounds"), [("compact", 16, 9), ("paper-model1", 4, 5)])
def test_step_time_and_memory(tmp_path, preset, batch, rounds):
    config = PRESETS[preset]()
    config = replace(config, scenes=24, search=replace(config.search, batch=batch))
    with joined():
        device = pick_device()
    data = load_data(config, device)
    modes = ("plain", "full", "separate", "naive")
    trainers = {
        mode: trainer_of(
            plain(config) if mode == "plain" else supernet(config, mode),
            config,
            data,
            tmp_path,
            mode != "plain",
        )
        for mode in modes
    }
    first = trainers["plain"]
    actions = {mode: trainer._train_step for mode, trainer in trainers.items()}
    actions["synthesis"] = lambda: first.draws.batch(data.train, batch)
    actions["draw"] = lambda: trainers["full"].structure.draw(0.5, trainers["full"].draws.structure)
    for action in actions.values():
        action(), action()
    times = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            times[name].append(seconds(action, device))
    median = {name: statistics.median(values) for name, values in times.items()}
    memory = {mode: peak_mb(actions[mode], device) for mode in modes}

    kernels, counts = len(config.net.kernels), len(config.net.growth)
    print(f"\n{preset}, batch {batch}, {device}, n_k {kernels}, n_f {counts}, {rounds} rounds")
    for mode in modes:
        print(
            f"{mode:10s} {1e3 * median[mode]:8.1f} ms {median[mode] / median['plain']:6.2f}×"
            f"   {memory[mode]:8.1f} MB {memory[mode] / memory['plain']:6.2f}×"
        )
    print(f"naive / full: {median['naive'] / median['full']:.1f}×")
    print(f"data synthesis: {median['synthesis'] / median['full']:.1%} of a full step")
    print(f"structure draw: {median['draw'] / median['full']:.1%} of a full step")
    if device.type == "cuda":
        macs = (
            CostModel(plain(config).to(device))().macs_per_mp.item() * batch * config.mosaic.patch_px**2 / 1e6
        )
        print(f"{6 * macs / median['plain'] / matmul_flops(device):.1%} of the measured matmul rate (plain)")
