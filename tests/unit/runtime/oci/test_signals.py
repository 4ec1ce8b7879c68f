"""Signals by name, number and CRI's enumeration."""

from __future__ import annotations

import pytest

from kubeletpy_proto import cri_pb2 as cri
from runtime.oci.request import TranslationError
from runtime.oci.signals import signal_number, stop_signal, to_cri


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("SIGTERM", 15), ("term", 15), ("9", 9), ("SIGRTMIN", 34), ("SIGRTMIN+3", 37),
        ("RTMAX-1", 63), ("SIGRTMAX", 64), ("SIGCLD", 17), ("SIGPOLL", 29),
    ],
)  # fmt: skip
def test_names(name: str, number: int) -> None:
    assert signal_number(name) == number


@pytest.mark.parametrize("name", ["", "SIGNOTHING", "0", "65", "-9", "SIGRTMIN+31", "SIGRTMIN3"])
def test_what_is_no_signal(name: str) -> None:
    with pytest.raises(TranslationError):
        signal_number(name)


def test_every_signal_of_the_protocol_is_known_and_comes_back() -> None:
    for value in cri.Signal.values():
        if value != cri.SIGNAL_RUNTIME_DEFAULT:
            number = stop_signal(value, "")
            assert stop_signal(to_cri(number), "") == number


def test_the_requests_signal_wins_over_the_images() -> None:
    assert stop_signal(cri.SIGNAL_SIGQUIT, "SIGINT") == 3
    assert stop_signal(cri.SIGNAL_RUNTIME_DEFAULT, "SIGINT") == 2
    assert stop_signal(cri.SIGNAL_RUNTIME_DEFAULT, "") == 15
