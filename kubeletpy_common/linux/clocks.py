"""The machine's clock: when somebody sets it (timerfd_create(2)), how it is kept (adjtimex(2))."""

from __future__ import annotations

import ctypes
import errno
import os
import time
from dataclasses import dataclass
from typing import Final

from .libc import check, libc

_NONBLOCK: Final = os.O_NONBLOCK
_CLOEXEC: Final = os.O_CLOEXEC
_ABSOLUTE: Final = 1
_CANCEL_ON_SET: Final = 2
# A moment that never comes; the kernel refuses what is beyond its 64 bits of nanoseconds.
_FAR: Final = 1 << 33
_TIME_ERROR: Final = 5  # adjtimex(2)
_STA_UNSYNC: Final = 0x40


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


class ClockChanges:
    """A descriptor that is readable once the clock was set, also when a suspended machine wakes.

    Raises:
        OSError: the kernel has no such timer.
    """

    def __init__(self) -> None:
        self._fd = check(
            libc.timerfd_create(time.CLOCK_REALTIME, _NONBLOCK | _CLOEXEC), "timerfd_create"
        )
        try:
            self._arm()
        except OSError:
            self.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor, to be waited for."""
        return self._fd

    def took_place(self) -> bool:
        """Return whether the clock was set since the last time this was asked.

        Raises:
            OSError: the descriptor is closed.
        """
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno != errno.ECANCELED:
                raise
        self._arm()
        return True

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._fd)

    def _arm(self) -> None:
        when = _TimerSpec(_TimeSpec(0, 0), _TimeSpec(_FAR, 0))
        flags = _ABSOLUTE | _CANCEL_ON_SET
        check(
            libc.timerfd_settime(self._fd, flags, ctypes.byref(when), None), "timerfd_settime", _FAR
        )


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2)."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("frequency", ctypes.c_long),
        ("largest_error", ctypes.c_long),
        ("estimated_error", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


@dataclass(frozen=True)
class Discipline:
    """How the kernel's clock is kept right.

    Attributes:
        synchronised: somebody keeps it, such as an NTP daemon, and has done so lately.
        largest_error: seconds that it may be off by, at most.
    """

    synchronised: bool
    largest_error: float


def discipline() -> Discipline:
    """Ask how the machine's clock is kept; nothing is changed, and no privilege needed.

    Raises:
        OSError: the kernel does not tell.
    """
    told = _Timex()  # modes 0: only read
    state = check(libc.adjtimex(ctypes.byref(told)), "adjtimex")
    unsynchronised = state == _TIME_ERROR or bool(told.status & _STA_UNSYNC)
    return Discipline(not unsynchronised, told.largest_error / 1e6)
