"""Signals in the three ways they are written: CRI's enumeration, an image's text, the number."""

from __future__ import annotations

import signal
from typing import Final

from kubeletpy_proto import cri_pb2 as cri
from runtime.oci.request import TranslationError

DEFAULT_STOP_SIGNAL: Final = int(signal.SIGTERM)

# The C library keeps the first two real-time signals of the kernel for itself, so SIGRTMIN is 34
# to programs (signal(7)).
_RT_MIN, _RT_MAX = 34, 64

_NUMBERS: Final = {
    # Old names that Python's enumeration does not list on every platform.
    "SIGCLD": int(signal.SIGCHLD),
    "SIGIOT": int(signal.SIGABRT),
    "SIGPOLL": int(signal.SIGIO),
} | {name: int(number) for name, number in signal.Signals.__members__.items()}


def signal_number(name: str) -> int:
    """Return the number of a signal written as ``SIGTERM``, ``TERM``, ``15`` or ``SIGRTMIN+3``.

    Raises:
        TranslationError: there is no such signal.
    """
    text = name.strip().upper()
    if text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= _RT_MAX:
        return int(text)
    word = text if text.startswith("SIG") else f"SIG{text}"
    number = _NUMBERS.get(word) or _real_time(word)
    if number:
        return number
    raise TranslationError(f"stop signal {name!r} is unknown; use a name such as SIGTERM")


def stop_signal(asked: cri.Signal.ValueType, image: str) -> int:
    """Return the signal that stops a container: the request's, else the image's, else SIGTERM.

    Raises:
        TranslationError: one of them is unknown.
    """
    if asked != cri.SIGNAL_RUNTIME_DEFAULT:
        return _from_cri(asked)
    return signal_number(image) if image else DEFAULT_STOP_SIGNAL


def to_cri(number: int) -> cri.Signal.ValueType:
    """Return CRI's word for a signal number; the default's if it has none."""
    return _TO_CRI.get(number, cri.SIGNAL_RUNTIME_DEFAULT)


def _from_cri(asked: cri.Signal.ValueType) -> int:
    try:
        name = cri.Signal.Name(asked).removeprefix("SIGNAL_")
    except ValueError:
        raise TranslationError(f"stop_signal {asked} is unknown") from None
    return signal_number(name.replace("MINPLUS", "MIN+").replace("MAXMINUS", "MAX-"))


def _real_time(word: str) -> int | None:
    for base, start, sign in (("SIGRTMIN", _RT_MIN, 1), ("SIGRTMAX", _RT_MAX, -1)):
        rest = word.removeprefix(base)
        if rest == word:
            continue
        offset = rest[1:] if rest[:1] == ("+" if sign > 0 else "-") else "" if rest else "0"
        if offset.isascii() and offset.isdigit() and len(offset) < 3:
            number = start + sign * int(offset)
            return number if _RT_MIN <= number <= _RT_MAX else None
    return None


_TO_CRI: Final = {
    _from_cri(value): value
    for value in reversed(cri.Signal.values())
    if value != cri.SIGNAL_RUNTIME_DEFAULT
}
