"""Host memory that a GPU can reach by itself, so that copies run at full speed beside everything else.

ONNX Runtime's Python interface hands out none, so it comes from the NVIDIA driver, which has no version to
match. Where there is no driver the arrays are ordinary ones, and everything works as well, only slower.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import math
import weakref
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .devices import cuda_driver

log = logging.getLogger(__name__)

_PORTABLE = 1
"""Pinned for every context of the process."""
_NO_DEVICE = 100
"""CUDA's number for it."""


def pinned_zeros(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array of zeros in page-locked memory, freed with its last view; an ordinary one without a GPU."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    address = _allocate(size) if size else 0
    if not address:
        return np.zeros(shape, dtype)
    buffer = (ctypes.c_char * size).from_address(address)
    weakref.finalize(buffer, _free, address).atexit = False  # the driver may be gone by then
    array = np.frombuffer(memoryview(buffer), dtype).reshape(shape)
    array[...] = 0
    return array


def _allocate(size: int) -> int:
    """Its address; 0 where the driver has none to give."""
    address = ctypes.c_void_p()
    status = in_context("cuMemHostAlloc", ctypes.byref(address), ctypes.c_size_t(size), _PORTABLE)
    if status:
        log.info("no pinned memory of %d bytes (CUDA error %d)", size, status)
    return address.value or 0


def _free(address: int) -> None:
    in_context("cuMemFreeHost", ctypes.c_void_p(address))


def in_context(function: str, *arguments: object) -> int:
    """The status of a function of the driver, called in the context that ONNX Runtime works in."""
    driver, context = _primary_context()
    if driver is None:
        return _NO_DEVICE
    status: int = driver.cuCtxPushCurrent_v2(context)
    if not status:
        status = getattr(driver, function)(*arguments)
        driver.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
    return status


@functools.cache
def _primary_context() -> tuple[ctypes.CDLL | None, ctypes.c_void_p]:
    """The driver, None where there is no device, and the first device's primary context."""
    driver, context = cuda_driver(), ctypes.c_void_p()
    if driver is None or driver.cuInit(0) or driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0):
        return None, context
    return driver, context
