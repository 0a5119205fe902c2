"""What a JPEG says of itself before it is decoded (ITU-T T.81, annex B)."""

from __future__ import annotations

from dataclasses import dataclass

BASELINE, EXTENDED, LOSSLESS = 0xC0, 0xC1, 0xC3
"""Start-of-frame markers: sequential with Huffman codes of 8 bits, the same of 12 bits, lossless."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN = b"\xff\xda"


@dataclass(frozen=True)
class Frame:
    """A JPEG's frame header."""

    marker: int
    height: int
    width: int
    components: int

    @property
    def samples(self) -> int:
        """Of all components, before subsampling."""
        return self.height * self.width * self.components


def read_frame(data: memoryview) -> Frame | None:
    """The frame of a JPEG; None where there is none."""
    at = 2
    while bytes(data[:2]) == b"\xff\xd8" and at + 10 <= len(data) and data[at] == 0xFF:
        if data[at + 1] in _FRAMES:
            height, width = (int.from_bytes(data[at + i : at + i + 2], "big") for i in (5, 7))
            return Frame(data[at + 1], height, width, data[at + 9])
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def count_scans(data: bytes) -> int:
    """How often the picture is gone over: each scan may take as long as a whole picture.

    Inside coded data, 0 follows every 255, so markers cannot be mistaken.
    """
    return data.count(_SCAN)
