"""How the tests share a machine: a file to a worker, a worker for each core, each on one thread.

And what tests of several files begin with.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports PyTorch, and in what a test starts


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """None: as many as there are cores. 0 where benchmarks were asked for: they print, too."""
    return None if "not bench" in config.option.markexpr else 0


@pytest.fixture
def network_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Denoisers that leave the means as the network makes them, which a model of a test's own may shift."""
    monkeypatch.setattr("sk_deploy.denoiser.keep_brightness", lambda *_: None)


@pytest.fixture(scope="session", params=["compact-unet", "skipinit-unet"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a model of a few steps, enough for factors that are not zero: made once for all workers."""
    from training_runs import small_config

    from sk_search.export import export
    from sk_search.search import search

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # which the workers share
    model = folder / request.param / "first.onnx"
    with FileLock(folder / f"{request.param}.lock"):
        if not model.exists():
            run = model.with_name("run")
            config = small_config()
            net = replace(config.net, arch=request.param, widths=(16, 16), round_to=8)
            search(run, replace(config, net=net))
            export(run, model, licence="CC0-1.0")
    return model


@pytest.fixture
def adopted_for_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adopted models are trained on as the default preset is: here with one of a few steps."""
    from training_runs import small_config

    from sk_search.presets import PRESETS

    monkeypatch.setitem(PRESETS, "small", small_config)
