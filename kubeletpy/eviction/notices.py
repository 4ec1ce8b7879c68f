"""What the kernel tells of pressure: stalls for lack of memory, and memory beyond a threshold.

Pressure stall information (Documentation/accounting/psi.rst, "Monitoring for pressure thresholds")
wakes whoever wrote ``some <stall us> <window us>`` into a pressure file and polls it. On cgroup v1
a memory threshold is an eventfd registered in ``cgroup.event_control`` (cgroup-v1/memory.rst, 9).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path

STALL_US, WINDOW_US = 300_000, 2_000_000
"""Microseconds that some task may stall for memory within a window before we look.

Without CAP_SYS_RESOURCE the kernel takes multiples of two seconds only."""
SYSTEM_PRESSURE = Path("/proc/pressure/memory")


class Notices:
    """Descriptors that the kernel makes ready, watched by the event loop.

    Args:
        ring: called when something is ready.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._poller = select.epoll()
        self._events: set[int] = set()
        self._stalls: set[int] = set()
        self._thresholds: dict[str, int] = {}

    def start(self) -> None:
        """Have the event loop watch; to be called in it."""
        # An epoll descriptor is readable when one in it is ready, urgent data (PSI) included.
        asyncio.get_running_loop().add_reader(self._poller.fileno(), self._ready)

    def stall(self, path: Path) -> bool:
        """Watch a pressure file; return False where the kernel has none or takes no trigger."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            os.write(descriptor, f"some {STALL_US} {WINDOW_US}\0".encode())
            self._poller.register(descriptor, select.EPOLLPRI)
        except OSError:
            os.close(descriptor)
            return False
        self._stalls.add(descriptor)
        return True

    def memory(self, directory: Path, usage: int) -> bool:
        """Watch that a cgroup of v1 does not use more than ``usage`` bytes, cache included.

        A later call for the same directory replaces the threshold.

        Returns:
            False where the kernel has no such thing.
        """
        event = -1
        try:
            with _opened(directory / "memory.usage_in_bytes", os.O_RDONLY) as attribute:
                event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
                with _opened(directory / "cgroup.event_control", os.O_WRONLY) as control:
                    os.write(control, f"{event} {attribute} {usage}".encode())
            self._poller.register(event, select.EPOLLIN)
        except OSError:
            if event >= 0:
                os.close(event)
            return False
        self._forget(self._thresholds.pop(str(directory), -1))
        self._thresholds[str(directory)] = event
        self._events.add(event)
        return True

    def _ready(self) -> None:
        for descriptor, _ in self._poller.poll(0):
            if descriptor in self._events:
                with contextlib.suppress(OSError):
                    os.eventfd_read(descriptor)
        self._ring()

    def _forget(self, descriptor: int) -> None:
        if descriptor < 0:
            return
        self._events.discard(descriptor)
        with contextlib.suppress(OSError):
            self._poller.unregister(descriptor)
        os.close(descriptor)

    def close(self) -> None:
        """Watch nothing any more."""
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop().remove_reader(self._poller.fileno())
        for descriptor in (*self._events, *self._stalls):
            os.close(descriptor)
        self._events.clear()
        self._stalls.clear()
        self._poller.close()


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
