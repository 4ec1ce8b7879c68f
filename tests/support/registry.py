"""A real registry for tests: Debian's ``docker-registry`` on a free loopback port.

with DockerRegistry(tmp_path) as registry:
    push(image, registry.host, "library/web", "v1")
"""

from __future__ import annotations

import queue
import re
import shutil
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.support.circumstances import patient

_LISTENING = re.compile(r"listening on ([0-9.]+:[0-9]+)")
_START_SECONDS = patient(30)


class DockerRegistry:
    """The process ``docker-registry``, its storage in a directory of the caller's.

    It listens on ``address``; ``prefix`` is what its command line begins with, if it is to be in
    another network namespace.
    """

    def __init__(
        self, directory: Path, address: str = "127.0.0.1", prefix: Sequence[str] = ()
    ) -> None:
        self.directory = directory
        self._address, self._prefix = address, prefix
        self.host = ""
        """``ADDRESS:PORT`` once entered; the kernel chooses the port."""
        self.log: list[str] = []
        """The last lines that the registry printed."""
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._addresses: queue.Queue[str | None] = queue.Queue()

    def __enter__(self) -> DockerRegistry:
        binary = shutil.which("docker-registry", path="/usr/bin:/usr/local/bin:/usr/sbin")
        if binary is None:
            raise RuntimeError("docker-registry is missing: apt-get install docker-registry")
        config = self.directory / "registry.yml"
        storage = self.directory / "registry"
        config.write_text(
            "version: 0.1\nlog: {level: info}\n"
            f'storage: {{filesystem: {{rootdirectory: "{storage}"}}, delete: {{enabled: true}}}}\n'
            f'http: {{addr: "{self._address}:0", secret: "tests"}}\n'
        )
        self._process = subprocess.Popen(
            [*self._prefix, binary, "serve", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            host = self._addresses.get(timeout=_START_SECONDS)
        except queue.Empty:
            host = None
        if host is None:
            self.stop()
            raise RuntimeError("docker-registry did not start:\n" + "\n".join(self.log))
        self.host = host
        return self

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.log = [*self.log[-99:], line.rstrip()]
            if match := _LISTENING.search(line):
                self._addresses.put(match[1])
        self._addresses.put(None)

    def stop(self) -> None:
        """End the process; the storage stays."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(patient(10))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._reader is not None:
            self._reader.join(patient(10))
        if process.stderr is not None:
            process.stderr.close()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
