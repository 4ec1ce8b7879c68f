"""Runs in a virtual machine: does what is asked over a virtio serial port, whatever its network.

Standard library only. Requests and answers are lines of JSON; many can be under way. A request is
``{"id", "command": [...], "input", "seconds"}``; its answer is ``{"id", "status", "output",
"errors"}``, or ``{"id", "failure"}`` when the command could not be run or took too long. The first
line after each start says ``{"boot": "<boot id>"}``.
"""

from __future__ import annotations

import glob
import json
import os
import subprocess
import threading
import time
from typing import Any, Final

PORTS: Final = "/dev/vport*p1"  # the first number is that of the device on the bus
_AWAY: Final = 0.2  # seconds between looks for somebody on the other side; the port cannot tell


class Agent:
    """The port, and who may write to it."""

    def __init__(self, path: str) -> None:
        self._port = os.open(path, os.O_RDWR)
        self._lock = threading.Lock()

    def serve(self) -> None:
        """Answer requests for ever."""
        self._send({"boot": _read("/proc/sys/kernel/random/boot_id")})
        kept = b""
        while True:
            chunk = os.read(self._port, 1 << 16)
            if not chunk:
                time.sleep(_AWAY)
                continue
            *lines, kept = (kept + chunk).split(b"\n")
            for line in filter(None, lines):
                threading.Thread(target=self._answer, args=(json.loads(line),), daemon=True).start()

    def _answer(self, request: dict[str, Any]) -> None:
        answer: dict[str, Any] = {"id": request["id"]}
        try:
            done = subprocess.run(
                request["command"], input=request.get("input", ""), capture_output=True, text=True,
                errors="replace", timeout=request["seconds"], check=False,
            )  # fmt: skip
            answer |= {"status": done.returncode, "output": done.stdout, "errors": done.stderr}
        except (OSError, subprocess.TimeoutExpired) as error:
            answer["failure"] = str(error)
        self._send(answer)

    def _send(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode() + b"\n"
        with self._lock:
            while data:
                data = data[os.write(self._port, data) :]


def _read(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


if __name__ == "__main__":
    Agent(glob.glob(PORTS)[0]).serve()
