"""When somebody sets the clock of the machine: timerfd_create(2), TFD_TIMER_CANCEL_ON_SET."""

from __future__ import annotations

import ctypes
import errno
import os
import time
from typing import Final

from .libc import check, libc

_NONBLOCK: Final = os.O_NONBLOCK
_CLOEXEC: Final = os.O_CLOEXEC
_ABSOLUTE: Final = 1
_CANCEL_ON_SET: Final = 2
# A moment that never comes; the kernel refuses what is beyond its 64 bits of nanoseconds.
_FAR: Final = 1 << 33


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
