"""A study: several seeds, the baselines at the cost that was found, and going on after an interruption."""

from dataclasses import replace

import pytest

from sk_deploy.errors import ConfigError
from sk_search.compare import compare
from sk_search.config import MosaicConfig, NetConfig, StructureConfig
from sk_search.presets import tiny
from sk_search.record import read_record
from sk_search.run import load_config, load_genotype
from sk_search.study import is_study, study


def small_config():
    base = tiny()
    train = replace(
        base.search, steps=4, batch=2, validate_every=4, validation_patches=2, log_every=2, warmup_steps=2
    )
    return replace(
        base,
        scenes=12,
        net=NetConfig(widths=(16, 32), kernels=(1, 3, 5), growth=(0.25, 0.5, 1.0), round_to=4),
        mosaic=MosaicConfig(patch_px=32),
        structure=StructureConfig(target_parameters=40_000),
        search=train,
        finetune=replace(train, ema=0.9),
    )


def test_study_trains_baselines_at_the_cost_that_was_found(tmp_path):
    runs = study(tmp_path / "study", small_config(), seeds=2, baselines=True)
    assert [run.name for run in runs] == [
        f"{kind}-{seed}" for kind in ("joint", "uniform", "random") for seed in (0, 1)
    ]
    assert [load_config(run).seed for run in runs] == [0, 1] * 3
    assert all(read_record(run).finetune.finished for run in runs)
    found = [load_genotype(run)["parameters"] for run in runs]
    mean = sum(found[:2]) / 2
    assert all(0.75 * mean < cost <= mean for cost in found[2:])
    assert {gain.baseline for group in compare(runs).groups for gain in group.gains} == {"uniform", "random"}


def test_interrupted_study_continues_where_it_was(tmp_path):
    out = tmp_path / "study"

    class Killed(Exception):
        pass

    def kill_in_the_second_run(record):
        if (out / "joint-1").exists() and record["stage"] == "finetune":
            raise Killed

    with pytest.raises(Killed):
        study(out, small_config(), seeds=2, report=kill_in_the_second_run)
    assert is_study(out)
    finished = (out / "joint-0" / "finetuned" / "last.pt").stat().st_mtime_ns
    steps = []
    runs = study(out, None, report=lambda record: steps.append((record["stage"], record["step"])))
    assert all(read_record(run).finetune.finished for run in runs)
    assert (out / "joint-0" / "finetuned" / "last.pt").stat().st_mtime_ns == finished
    assert {stage for stage, _ in steps} == {"finetune"}


def test_a_study_overwrites_nothing(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="not empty"):
        study(tmp_path, small_config())


def test_a_damaged_study_is_one_line(tmp_path):
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(ConfigError, match="another version"):
        study(tmp_path, None)
