"""Several processes train like one: the same weights, one log, one decision."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from skdn_cli.finetune import command as finetune_command
from training_runs import Interrupted, assert_same_run, interrupt_at, small_config, spawn

from sk_deploy.errors import ConfigError
from sk_search.parallel import average, gather, joined, own_shards, rank, share, spread
from sk_search.presets import PRESETS
from sk_search.search import search
from sk_search.training import Trainer


def together(function, *arguments):
    """Run function(*arguments) in two processes, as torchrun would; their exit codes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [spawn(_as_rank, i, port, function, arguments) for i in range(2)]
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def _as_rank(number, port, function, arguments):
    os.environ.update(RANK=str(number), LOCAL_RANK=str(number), WORLD_SIZE="2")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    function(*arguments)


def records(run, kind):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def checkpoint(run):
    return torch.load(run / "last.pt", weights_only=True)


@pytest.fixture(scope="module")
def by_two(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "two"
    assert together(search, run, small_config()) == [0, 0]
    return run


def _search_in_float32(run, config):
    """bfloat16 would round one batch of four otherwise than two of two."""
    real = Trainer.__init__

    def init(self, *arguments, **options):
        real(self, *arguments, **options)
        self.autocast = False

    Trainer.__init__ = init
    search(run, config)


def test_two_processes_equal_one_of_twice_the_batch(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    alone = spawn(_search_in_float32, one, small_config(batch=4, shards=2))
    assert together(_search_in_float32, two, small_config()) == [0, 0]
    alone.join()
    states = [checkpoint(run) for run in (one, two)]
    assert states[0]["settings"] == states[1]["settings"]
    torch.testing.assert_close(states[0]["draws"], states[1]["draws"], rtol=0, atol=0)
    # Sums in another order, and the loss takes logarithms of small means.
    torch.testing.assert_close(states[0]["net"], states[1]["net"], rtol=0, atol=3e-4)
    for one_momentum, two_momentum in zip(*(momenta(state) for state in states), strict=True):
        assert (one_momentum - two_momentum).norm() <= 1e-2 * one_momentum.norm()
    for kind, name in (("train", "loss"), ("validation", "psnr_db")):
        values = [[record[name] for record in records(run, kind)] for run in (one, two)]
        assert values[0] == pytest.approx(values[1], abs=1e-4)


def momenta(state):
    """What Muon and Adam remember of the gradients, of weights and of structure."""
    optimisers = *state["optimisers"], state["structure"]["optimiser"]
    return [
        moment.get("momentum", moment.get("exp_avg"))
        for facts in optimisers
        for moment in facts["state"].values()
    ]


def test_one_process_goes_on_with_what_two_began(by_two, tmp_path):
    run = tmp_path / "run"
    assert together(_search_interrupted_at, run, 8) == [1, 1]
    search(run, None)
    states = [checkpoint(run) for run in (run, by_two)]
    assert states[0]["step"] == 12
    torch.testing.assert_close(states[0]["draws"], states[1]["draws"], rtol=0, atol=0)


def _search_interrupted_at(run, step):
    """Process 1 alone gets the signal; both must stop after the same step, and save."""
    real = Trainer._train_step

    def train_step(self):
        if self.step == step - 1 and rank() == 1:
            signal.raise_signal(signal.SIGTERM)
        return real(self)

    Trainer._train_step = train_step
    try:
        search(run, small_config())
    except KeyboardInterrupt:
        assert rank() == 1 or checkpoint(run)["step"] == step
        sys.exit(1)


def test_resumed_by_two_is_bit_identical(by_two, tmp_path):
    run = tmp_path / "run"
    assert together(_search_interrupted_at, run, 6) == [1, 1]
    assert together(search, run, None) == [0, 0]
    assert_same_run(by_two, run)


def test_all_roll_back_when_one_diverges(tmp_path):
    assert together(_search_diverging_in_one, tmp_path / "run") == [0, 0]
    (record,) = records(tmp_path / "run", "rollback")
    assert record["step"] == 4
    state = checkpoint(tmp_path / "run")
    assert (state["step"], state["rate_scale"]) == (12, 0.5)


def _search_diverging_in_one(run):
    real = Trainer._loss

    def loss(self, batches):
        bad = rank() == 1 and self.step == 6 and self.rate_scale == 1
        return real(self, batches) * (torch.nan if bad else 1)

    Trainer._loss = loss
    search(run, small_config())


def test_collectives():
    assert together(_check_collectives) == [0, 0]


def _check_collectives():
    with joined():
        mine = [torch.full((2, 3), float(rank())), torch.tensor(2.0 * rank())]
        average(mine)
        assert torch.equal(mine[0], torch.full((2, 3), 0.5))
        assert torch.equal(mine[1], torch.tensor(1.0))
        assert share(f"process {rank()}") == "process 0"
        assert gather([rank(), rank() + 10]) == [0, 10, 1, 11]
        assert own_shards(4) == range(2 * rank(), 2 * rank() + 2)
        config = small_config().search
        assert (spread(config).batch, spread(config).shards) == (4, 2)
        assert spread(spread(config)) == spread(config)
        with pytest.raises(ConfigError, match="1 random stream, which 2 processes cannot share"):
            own_shards(1)


def test_one_makes_the_run_of_a_model(tmp_path):
    """`torchrun ... skdn finetune MODEL`: two would each find the other's folder taken."""
    run = tmp_path / "run"
    options = ["nano", "--out", str(run), "--steps", "1", "--patch", "96"]
    assert together(_finetune, options) == [0, 0]
    assert [record["step"] for record in records(run / "finetuned", "validation")] == [0, 1]


def _finetune(options):
    PRESETS["small"] = small_config  # by which adopted models are trained on: here for seconds
    finetune_command.main(options)


@pytest.mark.slow
def test_torchrun_as_documented(tmp_path):
    """`torchrun --nproc-per-node 2 --no-python skdn search ...`, and one process resumes it."""
    run = tmp_path / "run"
    skdn = Path(sys.executable).with_name("skdn")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--no-python"]
    options = ["--preset", "tiny", "--steps", "6", "--out", str(run)]
    done = subprocess.run(
        [*torchrun, str(skdn), "search", *options], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("searched:") == 1, done.stdout
    config = json.loads((run / "config.json").read_text())["config"]["search"]
    assert (config["batch"], config["shards"]) == (16, 2)
    assert [record["step"] for record in records(run, "validation")] == [6]
    subprocess.run([str(skdn), "search", "--resume", "--out", str(run)], check=True, capture_output=True)


def test_a_killed_run_of_shards_resumes_bit_identical(tmp_path):
    config = small_config(batch=4, shards=2)
    search(tmp_path / "whole", config)
    with pytest.raises(Interrupted):
        search(tmp_path / "run", config, interrupt_at(6))
    search(tmp_path / "run", None)
    assert_same_run(tmp_path / "whole", tmp_path / "run")
