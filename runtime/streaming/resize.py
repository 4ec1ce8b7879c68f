"""Sizes of a terminal, as clients send them: JSON objects one after the other (pure)."""

from __future__ import annotations

import json
from typing import Final

_MAX_WAITING: Final = 4 << 10


class SizeParser:
    """Finds the sizes in a stream of JSON objects, however the bytes arrive."""

    def __init__(self) -> None:
        self._text = ""
        self._decoder = json.JSONDecoder()

    def feed(self, data: bytes) -> list[tuple[int, int]]:
        """Take more bytes; return the sizes (width, height) that are complete now.

        What is no size is dropped: a terminal of the wrong size is not worth a session.
        """
        self._text += data.decode("utf-8", "replace")
        sizes: list[tuple[int, int]] = []
        while text := self._text.lstrip():
            try:
                value, end = self._decoder.raw_decode(text)
            except ValueError:
                self._text = text if len(text) < _MAX_WAITING else ""
                return sizes
            self._text = text[end:]
            if (size := _size(value)) is not None:
                sizes.append(size)
        self._text = ""
        return sizes


def _size(value: object) -> tuple[int, int] | None:
    if not isinstance(value, dict):
        return None
    # Go's decoder takes names in any case; its encoder writes Width and Height.
    fields = {str(key).lower(): number for key, number in value.items()}
    width, height = fields.get("width"), fields.get("height")
    for number in (width, height):
        # struct winsize has 16 bits for each (ioctl_tty(2)).
        if not isinstance(number, int) or not 0 <= number <= 0xFFFF:
            return None
    assert isinstance(width, int)
    assert isinstance(height, int)
    return width, height
