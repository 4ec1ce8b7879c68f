"""What an external runtime says of itself: ``<program> features`` (OCI, features.md)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import Any, Final

import msgspec

_SECONDS: Final = 5.0
_MAX_ANSWER: Final = 1 << 20
_RUNC: Final = "org.opencontainers.runc.version"


class Features(msgspec.Struct, frozen=True, kw_only=True):
    """The features that clients of CRI want to know of, and one that its callers here do.

    Attributes:
        recursive_read_only_mounts: it knows the mount option ``rro``.
        user_namespaces: it can map the ids of mounts, which volumes of a pod with a user namespace
            need.
        exec_cgroups: `exec` takes the cgroup of the process, a part of the container's.
        problem: why nothing is known; "" if all is well.
    """

    recursive_read_only_mounts: bool = False
    user_namespaces: bool = False
    exec_cgroups: bool = False
    problem: str = ""


def read_features(answer: Any) -> Features:
    """Return what an answer says (pure); what it does not mention is not there."""
    if not isinstance(answer, dict):
        return Features(problem="its answer is no JSON object")
    options = answer.get("mountOptions") or []
    linux = answer.get("linux") or {}
    extensions = linux.get("mountExtensions") or {}
    namespaces = linux.get("namespaces") or []
    idmap = (extensions.get("idmap") or {}).get("enabled") is True
    return Features(
        recursive_read_only_mounts="rro" in options,
        user_namespaces=idmap and "user" in namespaces,
        # No feature tells of it, but runc has both since 1.1.0.
        exec_cgroups=_RUNC in (answer.get("annotations") or {}),
    )


class FeatureReader:
    """Asks programs for their features, each version of a program once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, int], Features] = {}

    async def read(self, path: str) -> Features:
        """Return what the program at ``path`` can do; a program that cannot say it can nothing."""
        try:
            facts = os.stat(path)
        except OSError as error:
            return Features(problem=f"{path}: {error.strerror}")
        key = (path, facts.st_mtime_ns, facts.st_size)
        if key not in self._known:
            self._known[key] = await _ask(path)
        return self._known[key]


async def _ask(path: str) -> Features:
    try:
        process = await asyncio.create_subprocess_exec(
            path,
            "features",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        return Features(problem=f"{path}: {error.strerror}")
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_SECONDS):
            answer = await process.stdout.read(_MAX_ANSWER)
            status = await process.wait()
    except TimeoutError:
        return Features(problem=f"`{path} features` did not end within {_SECONDS:g} s")
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if status:
        return Features(problem=f"`{path} features` failed with status {status}")
    try:
        return read_features(json.loads(answer))
    except (ValueError, AttributeError) as error:
        return Features(problem=f"`{path} features` gave no answer that makes sense: {error}")
