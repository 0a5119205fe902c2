"""What a JPEG says of itself before it is decoded (ITU-T T.81, annex B)."""

from __future__ import annotations

from dataclasses import dataclass

BASELINE, EXTENDED, LOSSLESS = 0xC0, 0xC1, 0xC3
"""Start-of-frame markers: sequential with Huffman codes of 8 bits, the same of 12 bits, lossless."""
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_MAX_SCANS = 16
"""More than any camera writes; each scan may cost as much time as the whole picture."""


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
    """The frame of a JPEG; None where there is none, or more scans than make sense."""
    at = 2
    while bytes(data[:2]) == b"\xff\xd8" and at + 10 <= len(data) and data[at] == 0xFF:
        if data[at + 1] in _FRAMES:
            height, width = (int.from_bytes(data[at + i : at + i + 2], "big") for i in (5, 7))
            scans = bytes(data).count(b"\xff\xda")  # inside coded data, 0 follows every 255
            return Frame(data[at + 1], height, width, data[at + 9]) if scans <= _MAX_SCANS else None
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None
