"""Headers of tar archives that nobody vouches for."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from typing import Any, Final

from runtime.images.errors import MalformedImage

_BLOCK: Final = 512


class StrictHeader(tarfile.TarInfo):
    """Makes tarfile report a damaged header; it would take one for the archive's end.

    Which of the two methods tarfile calls for itself depends on the release of Python, security
    updates included.

    Raises:
        MalformedImage: in the place of what tarfile raises, and takes for the end.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> StrictHeader:
        """Parse a block, as :meth:`tarfile.TarInfo.frombuf`."""
        return _parsed(super().frombuf, buf, encoding, errors)

    @classmethod
    def _frombuf(
        cls, buf: bytes | bytearray, encoding: str, errors: str, **more: Any
    ) -> StrictHeader:
        parse = super()._frombuf  # type: ignore[misc]
        return _parsed(parse, buf, encoding, errors, **more)


def _parsed(
    parse: Callable[..., StrictHeader], buf: bytes | bytearray, encoding: str, errors: str,
    **more: Any,
) -> StrictHeader:  # fmt: skip
    if not buf:
        # An archive of no bytes, or without its two final zero blocks: other readers take it, too.
        buf = bytes(_BLOCK)
    if len(buf) != _BLOCK:
        raise MalformedImage("the archive ends in the middle of a header")
    try:
        return parse(buf, encoding, errors, **more)
    except tarfile.HeaderError:
        if buf.count(0) == _BLOCK:
            raise
        raise MalformedImage("the archive has a damaged header, or is no tar") from None
