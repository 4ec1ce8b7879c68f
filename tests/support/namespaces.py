"""Run a function in namespaces of its own, in this process."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from kubeletpy_common.linux.namespaces import CLONE_NEWNET, unshare

Result = TypeVar("Result")


def in_new_network(function: Callable[[], Result]) -> Result:
    """Return ``function()``, called by a new thread in a new network namespace with ``lo`` up.

    The namespace ends with the thread, unless something holds it.
    """

    def call() -> Result:
        unshare(CLONE_NEWNET)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return function()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call).result()
