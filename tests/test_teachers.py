"""Teachers: what they teach, where the result lives, how much of an ensemble's gain one pass keeps."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from training_runs import Interrupted, assert_same_run, interrupt_at, small_config

from sk_deploy.errors import ConfigError
from sk_search.config import MosaicConfig, NetConfig
from sk_search.data import load_data, validation_set
from sk_search.distil import distil, load_network, load_supernet
from sk_search.evaluate import self_ensemble
from sk_search.finetune import EnsembleGain, ensemble_gain, finetune, trained_stage
from sk_search.loss import denoising_loss
from sk_search.mosaics import pack
from sk_search.nets import superconvs
from sk_search.run import create_run, load_config
from sk_search.search import search
from sk_search.teachers import ensemble_teacher, run_teacher, supernet_teacher


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A fine-tuned run; its SkipInit scalars were opened, so that twelve steps show."""
    run = tmp_path_factory.mktemp("runs") / "run"
    search(run, small_config(teacher_weight=1.0))
    weights = load_file(run / "best.safetensors")
    for name in weights:
        if name.endswith("alpha"):
            weights[name].fill_(0.5)
    save_file(weights, run / "best.safetensors")
    distil(run)
    finetune(run)
    return run


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(
        finished, tmp_path / "run", ignore=shutil.ignore_patterns("tensorboard", "ensembled")
    )


@pytest.fixture(scope="module")
def pairs(finished):
    config = load_config(finished)
    return validation_set(load_data(config, torch.device("cpu")).validation, 4)


def records(folder, kind):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == kind]


def noisy_planes():
    generator = torch.Generator().manual_seed(0)
    clean, taught, output = torch.rand(3, 2, 4, 8, 8, generator=generator, dtype=torch.float64)
    return clean, taught, output, torch.tensor([[1e-3, 1e-4], [2e-2, 1e-3]]).double()


def test_the_best_answer_is_the_mixture_of_clean_and_taught():
    clean, taught, _, noise = noisy_planes()
    mixture = torch.lerp(clean, taught, 0.3).requires_grad_()
    loss = denoising_loss(mixture, clean, noise, taught, 0.3)
    (gradient,) = torch.autograd.grad(loss, mixture)
    assert gradient.abs().max() < 1e-12
    (gradient,) = torch.autograd.grad(denoising_loss(mixture, clean, noise, taught, 0.4), mixture)
    assert gradient.abs().max() > 1e-3


def test_a_teacher_that_knows_the_truth_changes_nothing():
    clean, _, output, noise = noisy_planes()
    torch.testing.assert_close(
        denoising_loss(output, clean, noise, clean, 0.3), denoising_loss(output, clean, noise)
    )


def test_a_teacher_of_no_weight_changes_nothing():
    clean, taught, output, noise = noisy_planes()
    assert denoising_loss(output, clean, noise, taught, 0.0) == denoising_loss(output, clean, noise)


def test_supernet_teacher_is_the_better_of_two(finished, pairs):
    teacher = supernet_teacher(finished, pairs)
    noisy, levels = pairs.noisy, pairs.levels
    answers = {}
    supernet = load_supernet(finished)  # the largest choice is in force
    with torch.no_grad():
        answers["the supernet, the largest choice"] = supernet(pack(noisy), levels)
        for conv in superconvs(supernet).values():
            conv.superkernel.weights = conv.superkernel.probabilities()
        answers["the supernet, all its choices"] = supernet(pack(noisy), levels)
        student = load_network(finished, "distilled")(pack(noisy), levels)
    error = {
        name: (x.clamp(0, 1) - pack(pairs.clean)).square().mean((1, 2, 3)) for name, x in answers.items()
    }
    psnr = {name: float(-10 * e.log10().mean()) for name, e in error.items()}
    assert teacher.name == max(psnr, key=psnr.get)
    assert teacher.psnr_db == pytest.approx(max(psnr.values()), abs=1e-3)
    torch.testing.assert_close(teacher(noisy, levels), answers[teacher.name], rtol=0, atol=1e-5)
    assert (teacher(noisy, levels) - student).abs().max() > 1e-4  # its argmax would teach nothing


def test_ensemble_teacher_is_the_frozen_self_ensemble(finished, pairs):
    net = load_network(finished, "finetuned")
    teacher = ensemble_teacher(net, finished / "finetuned" / "best.safetensors", 8, pairs)
    noisy, levels = pairs.noisy, pairs.levels
    with torch.no_grad():
        expected = pack(self_ensemble(net.eval(), noisy, levels, 8))
    torch.testing.assert_close(teacher(noisy, levels), expected)
    with torch.no_grad():
        net.tail.bias += 1
    torch.testing.assert_close(teacher(noisy, levels), expected)
    assert not teacher(noisy, levels).requires_grad


def test_the_ensemble_stage_begins_where_fine_tuning_ended_and_loses_nothing(run):
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    assert trained_stage(run) == "finetuned"
    assert ensemble_gain(run) is None
    assert finetune(run, teacher="self-ensemble") == run / "ensembled"
    assert {p: p.read_bytes() for p in before} == before
    assert trained_stage(run) == "ensembled"
    best = max(row["psnr_db"] for row in records(run / "finetuned", "validation"))
    rows = records(run / "ensembled", "validation")
    assert rows[0]["step"] == 0
    assert rows[0]["psnr_db"] == pytest.approx(best, abs=1e-5)
    learnt = max(row["psnr_db"] for row in rows)
    assert ensemble_gain(run) == EnsembleGain(rows[0]["psnr_db"], rows[0]["psnr_ensemble_db"], learnt)
    (teacher,) = records(run / "ensembled", "teacher")
    assert teacher["name"] == "its self-ensemble"
    assert teacher["psnr_db"] == pytest.approx(rows[0]["psnr_ensemble_db"], abs=0.2)  # edges differ
    load_network(run, "ensembled")
    with pytest.raises(ConfigError, match="trained already"):
        finetune(run, teacher="self-ensemble")


def test_what_a_teacher_does_is_learnt(finished, run, tmp_path, pairs):
    """A teacher that is the pupil with another tail, and nothing of the clean mosaics."""
    other = shutil.copytree(finished, tmp_path / "other")
    weights = load_file(finished / "distilled" / "best.safetensors")
    weights["tail.bias"] += 1.0  # half a standard deviation of the noise
    save_file(weights, other / "finetuned" / "best.safetensors")
    shutil.rmtree(run / "finetuned")
    finetune(run, teacher=str(other), steps=40)
    noisy, levels = pairs.noisy, pairs.levels
    goal = run_teacher(other, "finetuned", pairs)(noisy, levels)
    pupil = load_network(run, "distilled")
    start = denoising_loss(pupil(pack(noisy), levels), goal, levels).item()
    # not best.safetensors: on the clean mosaics this pupil gets worse
    pupil.load_state_dict(torch.load(run / "finetuned" / "last.pt", weights_only=True)["kept"])
    end = denoising_loss(pupil(pack(noisy), levels), goal, levels).item()
    assert end < start - 1  # dB


def test_a_teacher_survives_a_kill(run, tmp_path):
    whole = shutil.copytree(run, tmp_path / "whole")
    finetune(whole, teacher="self-ensemble")
    with pytest.raises(Interrupted):
        finetune(run, teacher="self-ensemble", report=interrupt_at(6))
    finetune(run, teacher="self-ensemble", resume=True)
    assert_same_run(whole / "ensembled", run / "ensembled")


def test_another_teacher_is_no_resumption(run):
    with pytest.raises(ConfigError, match="begun with teacher none, not supernet"):
        finetune(run, teacher="supernet", resume=True)
    with pytest.raises(ConfigError, match=r"nothing to resume: start with .* --teacher self-ensemble"):
        finetune(run, teacher="self-ensemble", resume=True)


def test_a_teacher_whose_weights_changed_is_named(run):
    with pytest.raises(Interrupted):
        finetune(run, teacher="self-ensemble", report=interrupt_at(6))
    weights = load_file(run / "finetuned" / "best.safetensors")
    save_file({name: w + 0.01 for name, w in weights.items()}, run / "finetuned" / "best.safetensors")
    with pytest.raises(ConfigError, match=r"teacher_weights: .* → "):
        finetune(run, teacher="self-ensemble", resume=True)


@pytest.mark.parametrize("teacher", ["supernet", "run"])
def test_fine_tuning_with_a_teacher(finished, run, teacher):
    shutil.rmtree(run / "finetuned")
    finetune(run, teacher=str(finished) if teacher == "run" else teacher)
    (record,) = records(run / "finetuned", "teacher")
    expected = f"the finetuned network of {finished}" if teacher == "run" else "the supernet"
    assert record["name"].startswith(expected)
    stored = json.loads((run / "finetuned" / "config.json").read_text())["teacher"]
    assert stored == (str(finished) if teacher == "run" else teacher)
    alone = load_file(finished / "finetuned" / "best.safetensors")
    taught = torch.load(run / "finetuned" / "last.pt", weights_only=True)["net"]
    assert any(not torch.equal(alone[name], taught[name]) for name in alone)


def test_a_teacher_that_the_patches_do_not_fit(tmp_path, pairs):
    other = tmp_path / "deep"
    other.mkdir()
    create_run(
        other,
        replace(small_config(), net=NetConfig(arch="skipinit-unet", widths=(8,) * 6), mosaic=MosaicConfig()),
    )
    with pytest.raises(ConfigError, match="multiple of 64 sensor pixels, these have 32"):
        run_teacher(other, "finetuned", pairs)


def test_what_one_pass_keeps():
    assert str(EnsembleGain(36.0, 36.2, 36.15)) == (
        "one pass keeps +0.150 of the self-ensemble's +0.200 dB (75%)"
    )
