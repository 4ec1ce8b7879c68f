from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.shim.messages import (
    Decoder,
    ProtocolError,
    Rootfs,
    SandboxSpec,
    StartRequest,
    encode,
    to_message,
)


@given(
    st.lists(st.tuples(st.dictionaries(st.text(), st.integers()), st.binary()), max_size=5),
    st.integers(1, 40),
)
def test_frames_arrive_whole_however_they_are_cut(
    frames: list[tuple[dict[str, int], bytes]], size: int
) -> None:
    stream = b"".join(encode(message, payload) for message, payload in frames)
    decoder = Decoder()
    got = []
    for start in range(0, len(stream), size):
        got += decoder.feed(stream[start : start + size])
    assert got == frames


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">II", 1 << 30, 0),
        struct.pack(">II", 2, 1 << 31),
        struct.pack(">II", 2, 0) + b"no",
        struct.pack(">II", 2, 0) + b"[]",
    ],
)
def test_what_is_no_frame_is_refused_before_it_is_buffered(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        Decoder().feed(data)


def test_a_frame_beyond_the_limits_is_not_sent() -> None:
    with pytest.raises(ProtocolError):
        encode({"a": "x" * (5 << 20)})


def test_requests_survive_the_wire() -> None:
    rootfs = Rootfs(("2/fs", "1/fs"), "3/fs", "3/work", "/base")
    linux = {"namespaces": [{"type": "pid"}]}
    request = StartRequest("c", Path("/b"), rootfs, linux, Path("/l"), cgroup_procs=(Path("/p"),))
    assert StartRequest.from_message(json.loads(json.dumps(to_message(request)))) == (
        request.replaced(bundle="/b", log_path="/l", cgroup_procs=("/p",))
    )
    spec = SandboxSpec("s", Path("/d"), "host", sysctls={"a.b": "1"}, cgroup_procs=(Path("/p"),))
    assert SandboxSpec.from_message(json.loads(json.dumps(to_message(spec)))) == (
        spec.replaced(directory="/d", cgroup_procs=("/p",))
    )
