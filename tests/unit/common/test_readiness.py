from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubeletpy_common.readiness import VARIABLE, tell_ready, tell_stopping


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.settimeout(30)
        yield made


@pytest.mark.parametrize("abstract", [True, False])
def test_who_listens_hears_of_it(
    listener: socket.socket, abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener.bind("" if abstract else str(tmp_path / "notify"))
    name = listener.getsockname()
    monkeypatch.setenv(VARIABLE, f"@{name[1:].decode()}" if abstract else name)
    tell_ready("listens on https://127.0.0.1:6443")
    assert listener.recv(4096) == b"READY=1\nSTATUS=listens on https://127.0.0.1:6443\n"
    tell_stopping()
    assert listener.recv(4096) == b"STOPPING=1\n"


@pytest.mark.parametrize("value", ["", "relative", "/no/such/socket", "@no-such-socket"])
def test_nobody_listening_is_no_failure(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, value)
    tell_ready("listens")
