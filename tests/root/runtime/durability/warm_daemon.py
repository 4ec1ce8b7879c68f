"""Daemons that start without the second that the boot of an interpreter and imports take.

Run as a program it imports everything once; for each line on its standard input it forks a child
that is the daemon, and prints its process id. `WarmDaemon` is the test's side of it.
"""

from __future__ import annotations

import gc
import importlib
import os
import pkgutil
import select
import signal
import subprocess
import sys
from pathlib import Path

from tests.root.runtime.cri.node import BOOT_SECONDS, Daemon, Place, wait_until
from tests.support.circumstances import patient


class WarmDaemon(Daemon):
    """A daemon that is forked from a process which has its imports behind it."""

    def __init__(self, place: Place) -> None:
        super().__init__(place, place.directory / "runtime.toml")
        self._pidfd = -1
        self._pid = 0
        self._forker = subprocess.Popen(
            ["nsenter", f"--net={place.netns}", sys.executable, "-m", __name__,
             str(place.directory / "runtime.toml"), str(self.log_path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._forker.stdout is not None
        assert self._forker.stdout.readline() == "ready\n"

    def start(self) -> None:
        position = self.log_path.stat().st_size
        assert self._forker.stdin is not None
        assert self._forker.stdout is not None
        self._forker.stdin.write("start\n")
        self._forker.stdin.flush()
        self._pid = int(self._forker.stdout.readline())
        self._pidfd = os.pidfd_open(self._pid)
        wait_until(
            lambda: self._says_ready(position) or self._process_ended(),
            "the daemon to be ready", BOOT_SECONDS,
        )  # fmt: skip
        if self._process_ended():
            raise RuntimeError(f"the daemon ended at its start:\n{self.log()[-3000:]}")

    def _process_ended(self) -> bool:
        if self._pidfd < 0:
            return True
        if not select.select([self._pidfd], [], [], 0)[0]:
            return False
        self._forget()
        return True

    def _forget(self) -> None:
        os.close(self._pidfd)
        self._pidfd = -1

    @property
    def pid(self) -> int:
        return self._pid

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        self._end(signal.SIGTERM)
        return 0

    def _end(self, number: signal.Signals) -> None:
        if self._process_ended():
            return
        signal.pidfd_send_signal(self._pidfd, number)
        assert select.select([self._pidfd], [], [], 30)[0], "the daemon did not end"
        self._forget()

    def close(self) -> None:
        """End the daemon and the process it comes from."""
        self.stop()
        assert self._forker.stdin is not None
        self._forker.stdin.close()
        self._forker.wait(patient(30))


def main() -> None:
    """Fork daemons."""
    from runtime import cri, images, network, state, streaming
    from runtime.config import load_config
    from runtime.daemon import serve

    for package in (cri, images, network, state, streaming):
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            importlib.import_module(module.name)
    config = load_config(Path(sys.argv[1]), {})
    gc.freeze()
    print("ready", flush=True)
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            log = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(log, 2)
            os.dup2(null, 0)
            os.dup2(null, 1)
            serve(config)
            os._exit(0)
        print(child, flush=True)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
