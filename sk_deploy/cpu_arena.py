"""The memory that ONNX Runtime's CPU provider holds activations in: one arena for the process.

It asks the system for pieces of exactly the size that is needed, and memory patterns are off, which would
hold a second plan of all activations beside the first run's. `small` so takes 560 bytes a packed pixel, where
the defaults take 1280, and as long. The price: exact pieces do not add up to larger ones, and tiles that grow
from one run to the next would take the sum of all. `give_back` goes before those.
"""

from __future__ import annotations

import functools
from typing import Any

_EXACTLY_AS_REQUESTED = 1


def use_arena(settings: Any) -> None:
    """Have a session of these settings, which is to be opened on the CPU, use the arena."""
    _register()
    settings.enable_mem_pattern = False
    settings.add_session_config_entry("session.use_env_allocators", "1")


def give_back(runtime: Any, least_feeds: dict[str, Any]) -> None:
    """Return what the arena holds beyond the weights to the system, by way of a run on a few pixels."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    runtime.run(None, least_feeds, options)


@functools.cache
def _register() -> None:
    import onnxruntime

    place = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    # No limit on the whole; defaults (-1) for the first piece and for what may stay unused in one.
    strategy = {
        "max_mem": 0,
        "arena_extend_strategy": _EXACTLY_AS_REQUESTED,
        "initial_chunk_size_bytes": -1,
        "max_dead_bytes_per_chunk": -1,
    }
    onnxruntime.create_and_register_allocator(place, onnxruntime.OrtArenaCfg(strategy))
