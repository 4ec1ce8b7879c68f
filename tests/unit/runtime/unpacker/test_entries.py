"""Entries and contents on their way from the reader of a layer to its writer."""

from __future__ import annotations

import json
import os
import random
import struct
import threading
from io import BytesIO

import pytest

from runtime.images.errors import DigestMismatch, ImageError, MalformedImage, StoreError
from runtime.unpacker.entries import Entry, FrameReader, FrameWriter


def sent(entries: list[tuple[Entry, bytes]], error: ImageError | None = None) -> FrameReader:
    """Return the other end of a pipe into which these were written."""
    receiving, sending = os.pipe()

    def write() -> None:
        frames = FrameWriter(sending)
        for entry, data in entries:
            frames.entry(entry)
            for at in range(0, len(data), 100_000):
                frames.content(data[at : at + 100_000])
        if error is not None:
            frames.fail(error)
        else:
            frames.end()
        os.close(sending)

    threading.Thread(target=write).start()
    return FrameReader(open(receiving, "rb"))


def taken(frames: FrameReader) -> list[tuple[Entry, bytes]]:
    return [(e, b"".join(frames.content(e.size))) for e in frames.entries()]


def test_entries_and_contents_arrive_in_order() -> None:
    dice = random.Random(3)
    entries = []
    for number in range(700):
        size = dice.choice([0, 1, 50, 9_000, 300_000 if number % 50 == 0 else 7])
        data = dice.randbytes(size)
        entries.append((Entry("file", b"f%d" % number, size=size), data))
    assert taken(sent(entries)) == entries


def test_everything_of_an_entry_is_kept() -> None:
    odd = Entry(
        "block", b"\xff\xfe/\n\"'", 0o7777, 1, 2, -3, 0, b"\x80", (8, 1),
        (("user.a", b"\0\xff"), ("user.b", b"")), ((0, 1), (2, 1)),
    )  # fmt: skip
    plain = Entry("directory", b"d")
    assert [entry for entry, _ in taken(sent([(odd, b""), (plain, b"")]))] == [odd, plain]


def test_contents_that_nobody_takes_are_left_out() -> None:
    entries = [(Entry("file", b"a", size=600_000), bytes(600_000)), (Entry("file", b"b"), b"")]
    frames = sent(entries)
    assert [entry.name for entry in frames.entries()] == [b"a", b"b"]


def test_a_failure_comes_behind_what_was_read() -> None:
    frames = sent([(Entry("file", b"a", size=2), b"xy")], DigestMismatch("of bytes"))
    entries = frames.entries()
    assert next(entries).name == b"a"
    with pytest.raises(DigestMismatch, match="of bytes"):
        next(entries)


def frame(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">cI", kind, len(body)) + body


ROW = Entry("file", b"f", size=3).to_row()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"H\0",
        frame(b"D", b"x"),
        frame(b"H", b"{}x"),
        frame(b"H", b"[1]"),
        frame(b"H", json.dumps([[*ROW[:6], "9", *ROW[7:]]]).encode()),
        frame(b"H", json.dumps([[ROW[0], 7, *ROW[2:]]]).encode()),
        frame(b"H", json.dumps([[*ROW[:10], [[0, "x"]]]]).encode()),
        frame(b"H", json.dumps([ROW]).encode()) + frame(b"Z", b""),
        frame(b"H", json.dumps([ROW]).encode()) + frame(b"D", b"xy"),
        struct.pack(">cI", b"H", 1 << 31),
    ],
)
def test_nonsense_is_refused(data: bytes) -> None:
    with pytest.raises((MalformedImage, StoreError)):
        taken(FrameReader(BytesIO(data)))


def test_a_reader_cannot_make_up_classes_of_errors() -> None:
    with pytest.raises(StoreError):
        taken(FrameReader(BytesIO(frame(b"E", b'["SystemExit", "x"]'))))
