"""Runs CNI plugins (CNI specification, section 2), never longer than they are allowed to."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from runtime.network.cni.errors import CniError
from runtime.network.errors import NetworkError

_MAX_OUTPUT: Final = 1 << 20
_MAX_SHOWN: Final = 2000
# Plugins run iptables and the like, which a daemon's PATH may lack.
_SYSTEM_DIRECTORIES: Final = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")


@dataclass(frozen=True)
class Programs:
    """Where plugins are, and how long one may take.

    Attributes:
        directories: searched in order.
        seconds: deadline of one plugin, with what it starts itself.
    """

    directories: tuple[Path, ...]
    seconds: float

    @property
    def search_path(self) -> str:
        """CNI_PATH: where plugins find the plugins that they delegate to."""
        return os.pathsep.join(str(directory) for directory in self.directories)

    def find(self, name: str) -> Path:
        """Return the program of a plugin.

        Raises:
            NetworkError: there is none.
        """
        for directory in self.directories:
            path = directory / name
            if path.is_file() and os.access(path, os.X_OK):
                return path
        raise NetworkError(
            f"CNI plugin {name} is in none of {self.search_path}; install it (the standard ones, "
            "in Debian: apt-get install containernetworking-plugins), or name its directory by "
            "--cni-bin-dir"
        )

    async def invoke(
        self, name: str, command: str, content: Mapping[str, Any], variables: Mapping[str, str]
    ) -> dict[str, Any]:
        """Run a plugin once; return its result, which is empty for most commands.

        Args:
            name: its type.
            command: CNI_COMMAND.
            content: for its standard input.
            variables: further CNI_* variables.

        Raises:
            CniError: it failed, hung, or answered what is no result.
            NetworkError: there is no such plugin.
        """
        program = self.find(name)
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("CNI_")},
            **variables,
            "CNI_COMMAND": command,
            "CNI_PATH": self.search_path,
            "PATH": os.pathsep.join((os.environ.get("PATH", os.defpath), *_SYSTEM_DIRECTORIES)),
        }
        try:
            process = await asyncio.create_subprocess_exec(
                program,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment,
                cwd="/",
                # A group of its own, so that what it started can be ended with it.
                start_new_session=True,
            )
        except OSError as error:
            raise CniError(name, command, None, f"running {program}: {error}") from error
        try:
            async with asyncio.timeout(self.seconds):
                output, errors = await _talk(process, json.dumps(content).encode())
        except TimeoutError:
            text = f"it has not ended after {self.seconds:g} s and was killed"
            raise CniError(name, command, None, text) from None
        finally:
            await _end(process)
        return _judge(name, command, process.returncode or 0, output, errors)


async def _talk(process: asyncio.subprocess.Process, content: bytes) -> Sequence[bytes]:
    """Send the input, return output and errors, and await the end."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write(content)

    async def send(stdin: asyncio.StreamWriter) -> bytes:
        try:
            await stdin.drain()
            stdin.close()
            await stdin.wait_closed()
        except (BrokenPipeError, ConnectionResetError):
            pass  # it need not read what it does not need
        return b""

    async with asyncio.TaskGroup() as group:
        group.create_task(send(process.stdin))
        output = group.create_task(_read(process.stdout))
        errors = group.create_task(_read(process.stderr))
    await process.wait()
    return output.result(), errors.result()


async def _read(stream: asyncio.StreamReader) -> bytes:
    """Read to the end; of what exceeds the limit no more is kept than shows that."""
    data = bytearray()
    while chunk := await stream.read(1 << 16):
        if len(data) <= _MAX_OUTPUT:
            data += chunk
    return bytes(data)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        await process.wait()


def _judge(
    name: str, command: str, status: int, output: bytes, errors: bytes
) -> dict[str, Any]:  # fmt: skip
    """Return the result of a plugin that has ended."""
    content: Any = None
    if len(output) > _MAX_OUTPUT:
        raise CniError(name, command, None, f"it wrote more than {_MAX_OUTPUT} bytes")
    if output.strip():
        try:
            content = json.loads(output)
        except (ValueError, RecursionError):
            content = None
    said = errors.decode(errors="replace").strip() or output.decode(errors="replace").strip()
    said = said[-_MAX_SHOWN:]
    if status != 0:
        if isinstance(content, dict) and isinstance(content.get("code"), int):
            text = str(content.get("msg") or "no message")
            details = content.get("details")
            text = f"{text}; {details}" if details else text
            raise CniError(name, command, content["code"], text[:_MAX_SHOWN])
        ended = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        raise CniError(name, command, None, f"{ended}, saying: {said or 'nothing'}")
    if command != "ADD":
        return {}
    if not isinstance(content, dict):
        raise CniError(name, command, None, f"its answer is no result: {said or 'nothing'}")
    return content
