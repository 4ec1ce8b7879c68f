"""How the process of the kubelet ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

HANGING = """
import asyncio, logging, threading
from kubeletpy.kubelet_main import leave

async def work():
    begun = threading.Event()
    hang = lambda: begun.set() or threading.Event().wait()
    asyncio.get_running_loop().run_in_executor(None, hang)
    begun.wait()
    print("done")

asyncio.Runner().run(work())
leave(3)
"""


@pytest.mark.slow
def test_a_thread_that_hangs_does_not_keep_the_kubelet() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGING], capture_output=True, timeout=60, check=False, text=True
    )
    assert (done.returncode, done.stdout) == (3, "done\n"), done.stderr
