"""Objects from one process to another, their arrays piece by piece: neither side holds them twice."""

from __future__ import annotations

import pickle
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

PIECE_BYTES = 2**20


def send(connection: Connection, value: Any) -> None:
    """Send a picklable object. Raises OSError where the other side is gone."""
    arrays: list[pickle.PickleBuffer] = []
    rest = pickle.dumps(value, protocol=5, buffer_callback=arrays.append)
    views = [array.raw() for array in arrays]
    connection.send((rest, [view.nbytes for view in views]))
    for view in views:
        for at in range(0, view.nbytes, PIECE_BYTES):
            connection.send_bytes(view[at : at + PIECE_BYTES])


def receive(connection: Connection) -> Any:
    """What `send` sent. Raises EOFError or OSError where the other side is gone before all is here."""
    rest, sizes = connection.recv()
    arrays = [np.empty(size, np.uint8) for size in sizes]
    for array in arrays:
        for at in range(0, array.nbytes, PIECE_BYTES):
            connection.recv_bytes_into(array.data, at)
    return pickle.loads(rest, buffers=arrays)
