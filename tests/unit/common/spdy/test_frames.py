from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeletpy_common.spdy import frames as f
from kubeletpy_common.spdy.errors import SpdyError
from kubeletpy_common.spdy.headers import DICTIONARY, MAX_BLOCK, HeaderDecoder, HeaderEncoder

ids = st.integers(1, 2**31 - 1)
words = st.text(st.characters(codec="utf-8"), max_size=40)
names = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=20)
headers = st.dictionaries(names, words, max_size=6)
numbers = st.integers(0, 2**32 - 1)
frames = st.one_of(
    st.builds(
        f.SynStream,
        ids,
        headers,
        st.booleans(),
        st.integers(0, 7),
        st.integers(0, 2**31 - 1),
        st.booleans(),
    ),
    st.builds(f.SynReply, ids, headers, st.booleans()),
    st.builds(f.HeadersFrame, ids, headers, st.booleans()),
    st.builds(f.Data, ids, st.binary(max_size=2000), st.booleans()),
    st.builds(f.RstStream, ids, numbers),
    st.builds(f.Settings, st.dictionaries(st.integers(0, 2**24 - 1), numbers, max_size=5)),
    st.builds(f.Ping, numbers),
    st.builds(f.GoAway, ids, numbers),
    st.builds(f.WindowUpdate, ids, st.integers(0, 2**31 - 1)),
)


@given(st.lists(frames, max_size=10), st.integers(1, 50))
def test_frames_survive_any_cutting(sent: list[f.Frame], piece: int) -> None:
    encoder, decoder = f.FrameEncoder(), f.FrameDecoder()
    stream = b"".join(encoder.encode(frame) for frame in sent)
    received: list[f.Frame] = []
    for start in range(0, len(stream), piece):
        received += decoder.feed(stream[start : start + piece])
    assert received == sent


@given(st.binary(max_size=300))
def test_any_bytes_are_frames_or_a_protocol_error(data: bytes) -> None:
    try:
        frames = f.FrameDecoder().feed(data)
    except SpdyError:
        return
    assert sum(8 for _ in frames) <= len(data)


def test_the_dictionary_is_that_of_the_draft() -> None:
    # zlib names a dictionary by its Adler-32; this is the one that every client of SPDY/3 knows.
    assert len(DICTIONARY) == 1423
    assert zlib.adler32(DICTIONARY) == 0xE3C6A7C2


def test_bytes_of_frames_are_as_the_draft_draws_them() -> None:
    encoder = f.FrameEncoder()
    assert (
        encoder.encode(f.Data(5, b"abc", fin=True)) == bytes.fromhex("00000005 01000003") + b"abc"
    )
    assert encoder.encode(f.Ping(7)) == bytes.fromhex("80030006 00000004 00000007")
    assert encoder.encode(f.RstStream(3, 5)) == bytes.fromhex("80030003 00000008 00000003 00000005")
    update = bytes.fromhex("80030009 00000008 00000001 00001000")
    assert encoder.encode(f.WindowUpdate(1, 4096)) == update


@pytest.mark.parametrize(
    "data",
    [
        bytes.fromhex("80020001 00000004 00000000"),  # another version
        bytes.fromhex("80030001 00ffffff"),  # a control frame beyond the limit
        bytes.fromhex("00000001 00ffffff"),  # likewise of data
        bytes.fromhex("80030006 00000000"),  # a ping without its number
        bytes.fromhex("80030003 00000004 00000001"),  # a reset without its status
        bytes.fromhex("80030004 00000008 ffffffff 00000000"),  # settings of a wrong count
        bytes.fromhex("80030002 00000008 00000001 12345678"),  # headers that are no zlib
    ],
)
def test_what_breaks_the_protocol_is_refused(data: bytes) -> None:
    with pytest.raises(SpdyError):
        f.FrameDecoder().feed(data)


def test_a_header_bomb_is_refused() -> None:
    bomb = HeaderEncoder().encode({"name": "x" * MAX_BLOCK})
    assert len(bomb) < 1000
    with pytest.raises(SpdyError, match="more than"):
        HeaderDecoder().decode(bomb)


@pytest.mark.parametrize("plain", [b"", struct.pack(">I", 1), struct.pack(">III", 1, 99, 0)])
def test_a_header_block_that_ends_early_is_refused(plain: bytes) -> None:
    compressor = zlib.compressobj(zdict=DICTIONARY)
    block = compressor.compress(plain) + compressor.flush(zlib.Z_SYNC_FLUSH)
    with pytest.raises(SpdyError):
        HeaderDecoder().decode(block)


def test_header_blocks_share_one_state() -> None:
    encoder, decoder = HeaderEncoder(), HeaderDecoder()
    for number in range(5):
        given_headers = {"streamType": "data", "port": "80", "requestID": str(number)}
        assert decoder.decode(encoder.encode(given_headers)) == {
            "streamtype": "data",
            "port": "80",
            "requestid": str(number),
        }
