"""Archives that are damaged, as each release of Python's tarfile reads them."""

from __future__ import annotations

import hashlib
import io
import tarfile
from typing import Any, cast

import pytest

from runtime.images.errors import MalformedImage
from runtime.unpacker.entries import Entry, FrameWriter
from runtime.unpacker.limits import UnpackLimits
from runtime.unpacker.reader import Packing, read_layer


class Frames:
    def __init__(self) -> None:
        self.names: list[str] = []
        self.failure: Exception | None = None
        self.ended = False

    def entry(self, entry: Entry) -> None:
        self.names.append(entry.name.decode())

    def content(self, data: bytes) -> None:
        pass

    def flush(self) -> None:
        pass

    def fail(self, error: Exception) -> None:
        self.failure = error

    def end(self) -> None:
        self.ended = True


def layer(*names: str) -> bytearray:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 700
            archive.addfile(info, io.BytesIO(bytes(700)))
    return bytearray(buffer.getvalue())


def read(data: bytes | bytearray) -> Frames:
    frames = Frames()
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    packing = Packing("none", digest, UnpackLimits())
    read_layer(io.BytesIO(data), packing, cast(FrameWriter, frames))
    return frames


@pytest.fixture(params=["as it is", "by a method of its own"], autouse=True)
def calls(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have tarfile call what it calls here, and what newer releases call."""
    if request.param == "as it is" or hasattr(tarfile.TarInfo, "_frombuf"):
        return
    parse: Any = tarfile.TarInfo.__dict__["frombuf"].__func__

    def frombuf(cls: Any, buf: bytes, encoding: str, errors: str, *, dircheck: bool = True) -> Any:
        return parse(cls, buf, encoding, errors)

    def fromtarfile(cls: Any, archive: Any) -> Any:
        buf = archive.fileobj.read(tarfile.BLOCKSIZE)
        made = cls._frombuf(buf, archive.encoding, archive.errors, dircheck=False)
        made.offset = archive.fileobj.tell() - tarfile.BLOCKSIZE
        return made._proc_member(archive)

    monkeypatch.setattr(tarfile.TarInfo, "_frombuf", classmethod(frombuf), raising=False)
    monkeypatch.setattr(tarfile.TarInfo, "fromtarfile", classmethod(fromtarfile))


def test_sound_ones_are_read() -> None:
    names = ["a", "b" * 200, "c"]
    found = read(layer(*names))
    assert (found.names, found.ended, found.failure) == (names, True, None)
    assert read(b"").ended
    # Without the two blocks of zeros at the end.
    assert read(bytes(layer("a")[: 512 + 1024])).ended


@pytest.mark.parametrize("at", [512 + 1024 + 100, 512 + 1024 + 300])
def test_a_damaged_header_is_not_the_end(at: int) -> None:
    data = layer("a", "b")
    data[at] ^= 0xFF
    found = read(data)
    assert isinstance(found.failure, MalformedImage)
    assert "damaged header" in str(found.failure)
    assert not found.ended


def test_a_damaged_header_after_that_of_a_long_name_is_not_the_end() -> None:
    data = layer("b" * 200)
    data[1024 + 100] ^= 0xFF
    assert isinstance(read(data).failure, MalformedImage)


@pytest.mark.parametrize("size", [100, 512, 512 + 1024 + 10])
def test_ones_that_are_cut_off(size: int) -> None:
    found = read(bytes(layer("a", "b")[:size]))
    assert isinstance(found.failure, MalformedImage)
    assert not found.ended
