"""Whether this version of the runtime can go on with what another version left.

Asked before anything is touched: when the daemon starts, by ``kubeletpy runtime --check``, and by
an upgrade before the new release becomes the current one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec

from runtime.shim.messages import OLDEST_PROTOCOL, PROTOCOL
from runtime.state.database import SCHEMA_VERSION
from runtime.state.records import SandboxState, StateError

_SHOWN: Final = 3
_REMEDY: Final = (
    "go on with the release that started them, or remove these pods with it before this one starts"
)


class _Kept(msgspec.Struct):
    """What matters of a sandbox's record, whatever else a later version writes."""

    name: str = ""
    state: str = ""
    boot_id: str = ""
    protocol: int = 1


def unfit(pods: Iterable[_Kept], boot_id: str) -> str:
    """Return which pods run by a shim that this version cannot talk to, "" if there are none.

    Args:
        pods: what is written down of them.
        boot_id: of the machine; pods of an earlier boot have no shim.
    """
    known = range(OLDEST_PROTOCOL, PROTOCOL + 1)
    # One that is not ready may still have a shim, if a runtime was killed as it ended the pod.
    found = [
        pod for pod in pods
        if pod.boot_id == boot_id and pod.protocol not in known
        and pod.state != SandboxState.CREATING
    ]  # fmt: skip
    if not found:
        return ""
    names = ", ".join(pod.name for pod in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    versions = ", ".join(map(str, sorted({pod.protocol for pod in found})))
    return (
        f"{len(found)} pods are kept by shims of protocol {versions}, this version speaks "
        f"{OLDEST_PROTOCOL} to {PROTOCOL}: {names}{more}"
    )


def problem(path: Path, boot_id: str) -> tuple[str, str]:
    """Look at a state file, without changing it.

    Returns:
        what keeps this version from going on with it, and what to do; two empty texts if nothing
        does, or if there is no such file yet.
    """
    if not path.exists():
        return "", ""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
            [(version,)] = database.execute("PRAGMA user_version").fetchall()
            if version > SCHEMA_VERSION:
                text = f"{path} has schema version {version}, this version knows {SCHEMA_VERSION}"
                return text, "use the release that wrote it, or a later one"
            rows = database.execute("SELECT record FROM sandboxes").fetchall() if version else []
        found = unfit((msgspec.json.decode(row, type=_Kept) for (row,) in rows), boot_id)
    except (sqlite3.Error, msgspec.DecodeError) as error:
        return f"{path} cannot be read: {error}", "see what the runtime says when it starts"
    return (found, _REMEDY) if found else ("", "")


def require(path: Path, boot_id: str) -> None:
    """Go on only if this version can.

    Raises:
        StateError: it cannot; nothing was touched.
    """
    text, remedy = problem(path, boot_id)
    if remedy == _REMEDY:
        raise StateError(f"cannot take over what runs here: {text}; {remedy}")
