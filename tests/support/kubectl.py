"""kubectl as a user runs it: the one of ``$KUBECTL``, or the one on PATH."""

from __future__ import annotations

import json
import os
import re
import selectors
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.support.circumstances import patient

_LIMIT_SECONDS = patient(30)


def find_kubectl() -> str:
    """Return the program.

    Raises:
        FileNotFoundError: there is none.
    """
    program = os.environ.get("KUBECTL") or shutil.which("kubectl")
    if program is None or shutil.which(program) is None:
        raise FileNotFoundError(
            f"no kubectl ({program or 'not on PATH'}): install kubernetes-client, or set KUBECTL"
        )
    return program


class Running:
    """A kubectl that runs.

    Attributes:
        process: its process; errors come with the output.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._rest = b""

    def until(self, text: str) -> list[str]:
        """Return the lines from here to the first one that contains ``text``.

        Raises:
            AssertionError: it does not come in time, or the program ends.
        """
        deadline = time.monotonic() + _LIMIT_SECONDS
        lines: list[str] = []
        while not lines or text not in lines[-1]:
            line, found, rest = self._rest.partition(b"\n")
            if found:
                lines.append(line.decode(errors="replace"))
                self._rest = rest
                continue
            data = self._read(deadline)
            assert data, f"no {text!r} in time, or ended before it: {lines} {self._rest!r}"
            self._rest += data
        return lines

    def end(self, code: int = 0) -> str:
        """Wait for its end, which must have this exit status; return the rest of its output."""
        deadline = time.monotonic() + _LIMIT_SECONDS
        while data := self._read(deadline):
            self._rest += data
        rest = self._rest.decode(errors="replace")
        status = self.process.wait(max(deadline - time.monotonic(), 0.1))
        assert status == code, f"exit status {status}: {rest}"
        return rest

    def _read(self, deadline: float) -> bytes:
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if selector.select(max(deadline - time.monotonic(), 0)):
                return os.read(self.process.stdout.fileno(), 1 << 16)
        return b""


class Kubectl:
    """Runs kubectl against one server, with a home of its own.

    Args:
        kubeconfig: of the server.
        home: for its caches.
        namespace: that commands are for; "" for that of the kubeconfig.
    """

    def __init__(self, kubeconfig: Path, home: Path, namespace: str = "") -> None:
        self.kubeconfig = kubeconfig
        self.home = home
        self.namespace = namespace
        self._program = find_kubectl()

    def within(self, namespace: str) -> Kubectl:
        """Return one for another namespace."""
        return Kubectl(self.kubeconfig, self.home, namespace)

    @cached_property
    def minor(self) -> int:
        """The minor version: 20 for 1.20."""
        text = self("version", "--client", "-o", "json")
        return int(re.sub(r"\D.*", "", json.loads(text)["clientVersion"]["minor"]))

    def __call__(self, *arguments: str, stdin: str = "", code: int = 0, **more: str) -> str:
        """Run it, and return its standard output; of a failure (``code``) the errors too.

        Args:
            arguments: of the command line.
            stdin: text of its standard input.
            code: exit status that it must have.
            more: variables of its environment.
        """
        done = self.run(*arguments, stdin=stdin, **more)
        assert done.returncode == code, (
            f"kubectl {' '.join(arguments)}: exit status {done.returncode}, not {code}\n"
            f"{done.stdout}{done.stderr}"
        )
        return done.stdout + (done.stderr if code else "")

    def run(
        self, *arguments: str, stdin: str = "", **more: str
    ) -> subprocess.CompletedProcess[str]:
        """Run it to its end, whatever that is."""
        return subprocess.run(
            self._command(arguments),
            input=stdin,
            capture_output=True,
            text=True,
            env=self._environment(more),
            timeout=_LIMIT_SECONDS,
            check=False,
        )

    def json(self, *arguments: str, stdin: str = "") -> Any:
        """Run it with ``-o json`` and return what it prints."""
        return json.loads(self(*arguments, "-o", "json", stdin=stdin))

    @contextmanager
    def running(self, *arguments: str) -> Iterator[Running]:
        """Start it and leave it running within the block; it is killed at the end of that."""
        process = subprocess.Popen(
            self._command(arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment({}),
            bufsize=0,
        )
        with process:
            try:
                yield Running(process)
            finally:
                process.kill()

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        command = [self._program, f"--kubeconfig={self.kubeconfig}"]
        command.append(f"--cache-dir={self.home}/cache")
        if self.namespace:
            command.append(f"--namespace={self.namespace}")
        return [*command, *arguments]

    def _environment(self, more: dict[str, str]) -> dict[str, str]:
        # Proxies of the machine are not for a server on it.
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return {**kept, "HOME": str(self.home), **more}
