"""Whatever happens to a training, it goes on bit for bit, or says in one line why not; nothing is lost."""

import json
import os
import random
import resource
import shutil
import signal
import time

import pytest
import torch
from safetensors.torch import load_file
from training_runs import PROCESSES, Interrupted, assert_same_run, interrupt_at, small_config, spawn

from sk_deploy.errors import ConfigError, SkdnError
from sk_search.checkpoint import all_finite, differences
from sk_search.distil import distil
from sk_search.finetune import finetune
from sk_search.record import read_record
from sk_search.search import search
from sk_search.training import Trainer


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "whole"
    search(run, small_config())
    return run


@pytest.fixture
def halfway(tmp_path):
    """A run killed at step 6: its checkpoint is of step 4."""
    run = tmp_path / "run"
    with pytest.raises(Interrupted):
        search(run, small_config(), interrupt_at(6))
    return run


def records(run, kind):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def checkpoint(run):
    return torch.load(run / "last.pt", weights_only=True)


# -- killed ------------------------------------------------------------------------------------------------


def _search_or_resume(run):
    begun = (run / "config.json").is_file()
    search(run, None if begun else small_config())


def _search_killed_while_writing(run, file):
    """Dies when the file number `file` is on disk under its temporary name, but not yet renamed."""
    count = iter(range(1, file + 1))
    sync = os.fsync

    def fsync(descriptor):
        sync(descriptor)
        if next(count) == file:
            os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = fsync
    _search_or_resume(run)


@pytest.mark.parametrize("file", [2, 4])
def test_killed_while_a_checkpoint_is_written(uninterrupted, tmp_path, file):
    """The files: config.json, last.pt of step 0, best.safetensors and last.pt of step 4."""
    run = tmp_path / "run"
    process = spawn(_search_killed_while_writing, run, file)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(list(run.glob(".skdn-*.part"))) == 1
    assert (run / "last.pt").exists() == (file > 2)
    search(run, None)
    assert_same_run(uninterrupted, run)
    assert not list(run.glob(".skdn-*.part"))


def test_killed_at_random_moments(uninterrupted, tmp_path):
    run, seed = tmp_path / "run", time.time_ns()
    print("seed", seed)  # shown when the test fails
    rng, kills = random.Random(seed), 0
    while True:
        process = spawn(_search_or_resume, run)
        process.join(rng.uniform(0.2, 1.5) + 0.3 * kills)  # ever longer, so it ends
        if process.exitcode is not None:
            break
        process.kill()
        process.join()
        kills += 1
    assert process.exitcode == 0
    assert_same_run(uninterrupted, run)


def test_a_scheduler_that_stops_the_run_is_heeded_after_the_step(uninterrupted, tmp_path):
    run = tmp_path / "run"

    def report(record):
        if record["step"] == 6:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        search(run, small_config(), report)
    assert checkpoint(run)["step"] == 6
    search(run, None)
    assert_same_run(uninterrupted, run)


# -- diverged ----------------------------------------------------------------------------------------------


@pytest.fixture
def diverging(monkeypatch):
    """Call it with a condition on the trainer under which a step yields gradients that are no numbers."""
    real = Trainer._loss

    def when(condition, loss_too):
        def loss(self, batches):
            value = real(self, batches)
            if not condition(self):
                return value
            if loss_too:
                return value * torch.nan
            return value + (0 * self.weights[0]).sum().sqrt()  # 0, with an infinite derivative

        monkeypatch.setattr(Trainer, "_loss", loss)

    return when


@pytest.mark.parametrize(("step", "loss_too"), [(6, True), (11, False)])
def test_rolls_back_and_goes_on_at_half_the_rate(tmp_path, diverging, caplog, step, loss_too):
    diverging(lambda trainer: trainer.step == step and trainer.rate_scale == 1, loss_too)
    run = tmp_path / "run"
    search(run, small_config())
    (record,) = records(run, "rollback")
    assert record["step"] == 4 * (step // 4)
    assert record["diverged_at"] in (step + 1, step + 2)
    assert record["learning_rate"] == pytest.approx(small_config().search.learning_rate / 2)
    (warning,) = (r.getMessage() for r in caplog.records if r.name == "sk_search.training")
    assert f"back to step {record['step']}" in warning
    assert "\n" not in warning
    state = checkpoint(run)
    assert (state["step"], state["rate_scale"], state["rollbacks"]) == (12, 0.5, 0)
    assert all_finite(state)
    assert all_finite(load_file(run / "best.safetensors"))
    assert [r["step"] for r in records(run, "train")] == list(range(2, 13, 2))


def test_a_rollback_resumes_bit_identical(tmp_path, diverging):
    diverging(lambda trainer: trainer.step == 6 and trainer.rate_scale == 1, True)
    search(tmp_path / "whole", small_config())

    def killed(when):
        def report(record):
            if when(record):
                raise Interrupted

        return report

    at_rollback = killed(lambda record: record["kind"] == "rollback")
    after = killed(lambda record: record["step"] == 10)
    for name, report in (("at", at_rollback), ("after", after)):
        with pytest.raises(Interrupted):
            search(tmp_path / name, small_config(), report)
        search(tmp_path / name, None)
        assert_same_run(tmp_path / "whole", tmp_path / name)


def test_fruitless_rollbacks_end_in_one_line(tmp_path, diverging):
    diverging(lambda trainer: trainer.step >= 5, True)
    run = tmp_path / "run"
    with pytest.raises(SkdnError, match=r"diverged at step 6, also at .* keeps step 4") as error:
        search(run, small_config())
    assert "\n" not in str(error.value)
    assert len(records(run, "rollback")) == 5
    state = checkpoint(run)
    assert state["step"] == 4
    assert all_finite(state)


# -- refused -----------------------------------------------------------------------------------------------


def change(run, section, **facts):
    header = json.loads((run / "config.json").read_text())
    header["config"][section].update(facts)
    (run / "config.json").write_text(json.dumps(header))


@pytest.mark.parametrize(
    ("section", "facts", "says"),
    [
        ("net", {"widths": [8, 16]}, "net.widths: 8,8 → 8,16"),
        ("search", {"learning_rate": 0.5}, "train.learning_rate: 0.008 → 0.5"),
        ("noise", {"bits": [12, 12]}, "noise.bits: 10,14 → 12,12"),
    ],
)
def test_a_changed_configuration_is_named(halfway, section, facts, says):
    before = {p.name: p.read_bytes() for p in halfway.iterdir() if p.is_file()}
    change(halfway, section, **facts)
    with pytest.raises(ConfigError) as error:
        search(halfway, None)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    after = {p.name: p.read_bytes() for p in halfway.iterdir() if p.is_file()}
    assert after | {"config.json": b""} == before | {"config.json": b""}


def test_a_run_may_be_lengthened(halfway):
    change(halfway, "search", steps=14)
    search(halfway, None)
    assert checkpoint(halfway)["step"] == 14


def test_differences_of_versions_are_none():
    assert differences({"net": {"widths": (8, 8)}}, {"net": {"widths": [8, 8], "new": 1}}) == []


def _resume_on_a_small_disk(run, limit_bytes, answer):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    try:
        search(run, None)
    except SkdnError as error:
        answer.send(str(error))
    answer.close()


@pytest.mark.parametrize("full", ["last.pt", "metrics.jsonl"])
def test_a_full_disk_is_one_line_and_keeps_the_checkpoint(halfway, uninterrupted, full):
    """No file may grow: the limit is just below the checkpoint's length, or the log's."""
    log_bytes = (halfway / "metrics.jsonl").stat().st_size
    limit = (halfway / "last.pt").stat().st_size - 1 if full == "last.pt" else log_bytes
    assert limit > log_bytes or full == "metrics.jsonl"
    before = (halfway / "last.pt").read_bytes()
    answer, question = PROCESSES.Pipe(duplex=False)
    process = spawn(_resume_on_a_small_disk, halfway, limit, question)
    question.close()
    message = answer.recv()
    process.join()
    assert process.exitcode == 0
    assert f"{full}: cannot be written (" in message
    assert "\n" not in message
    assert (halfway / "last.pt").read_bytes() == before
    search(halfway, None)
    assert_same_run(uninterrupted, halfway)


def test_folders_that_cannot_be_written_are_one_line(uninterrupted, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").mkdir()
    with pytest.raises(SkdnError, match=r"metrics\.jsonl: cannot be written \(Is a directory\)"):
        search(run, None)
    distil(run)
    (run / "finetuned").write_text("not a folder")
    with pytest.raises(ConfigError, match="finetuned cannot be made"):
        finetune(run)


def test_patience_waits_for_the_annealing(tmp_path):
    """Nothing improves after step 1; the annealing ends at step 6, and from there patience is 2."""
    config = small_config(steps=100, validate_every=1, patience=2, learning_rate=0.0, schedule="constant")
    structure = {"anneal_steps": 6, "learning_rate": 0.0}
    search(tmp_path / "run", type(config).from_dict(config.to_dict() | {"structure": structure}))
    state = checkpoint(tmp_path / "run")
    assert (state["step"], state["stale"]) == (7, 2)
    ends = [
        row["finished"] for row in read_record(tmp_path / "run").search.rows if row["kind"] == "validation"
    ]
    assert ends == [False] * 6 + [True]
