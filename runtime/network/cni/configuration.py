"""Network configuration lists (CNI specification, section 1): found, checked, negotiated."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from runtime.network.errors import NetworkError

SUPPORTED: Final = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
"""Versions of the specification, in order. The results of older ones have another form."""

_SUFFIXES: Final = (".conflist", ".conf", ".json")
_MAX_BYTES: Final = 1 << 20
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}")
# It becomes the name of a program in a directory.
_TYPE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+\-]{0,127}")


@dataclass(frozen=True)
class NetworkList:
    """One network: its plugins in the order of ADD.

    Attributes:
        name: of the network.
        version: of the specification that the plugins are to follow.
        plugins: their configurations as they were found.
        check: CHECK may be called.
        collect: GC may be called.
        source: the file, for people.
    """

    name: str
    version: str
    plugins: tuple[dict[str, Any], ...]
    check: bool = True
    collect: bool = True
    source: str = ""

    @property
    def types(self) -> tuple[str, ...]:
        """The names of the plugins' programs."""
        return tuple(plugin["type"] for plugin in self.plugins)

    def has(self, version: str) -> bool:
        """Tell whether the plugins follow ``version`` or a later one."""
        return SUPPORTED.index(self.version) >= SUPPORTED.index(version)

    def to_record(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> NetworkList:
        """Return what :meth:`to_record` was called on."""
        return cls(**{**record, "plugins": tuple(record["plugins"])})


def candidates(directory: Path) -> list[Path]:
    """Return the configuration files of a directory, the one to be used first.

    Raises:
        NetworkError: the directory cannot be read; one that is missing is empty.
    """
    try:
        found = [path for path in directory.iterdir() if path.suffix in _SUFFIXES]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise NetworkError(f"reading the CNI configurations in {directory}: {error}") from error
    return sorted(path for path in found if not path.name.startswith("."))


def load(directory: Path) -> NetworkList | None:
    """Return the network that the first file of ``directory`` describes; None without a file.

    The first in the order of names counts, as with other runtimes. If it cannot be used that is
    an error: the next one would be another network than the one that was meant.

    Raises:
        NetworkError: naming the file and what is wrong with it.
    """
    for path in candidates(directory):
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise NetworkError(f"CNI configuration {path} is larger than {_MAX_BYTES} bytes")
            text = path.read_text()
        except FileNotFoundError:
            continue  # removed since the directory was read
        except (OSError, UnicodeDecodeError) as error:
            raise NetworkError(f"reading the CNI configuration {path}: {error}") from error
        return parse(text, str(path))
    return None


def parse(text: str, source: str) -> NetworkList:
    """Return the network that a configuration list, or a single plugin's, describes.

    Raises:
        NetworkError: naming ``source`` and what is wrong with it.
    """

    def wrong(what: str) -> NetworkError:
        return NetworkError(f"CNI configuration {source}: {what}")

    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise wrong(f"is no JSON: {error}") from error
    if not isinstance(content, dict):
        raise wrong("is no JSON object")
    name = content.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise wrong(f"name {name!r} is not letters, digits, '_', '.', '-'")
    # Before version 1.0 a file could hold the configuration of one plugin alone.
    plugins = content.get("plugins", [content] if "type" in content else None)
    if not isinstance(plugins, list) or not plugins:
        raise wrong("plugins is no list with a plugin in it")
    for plugin in plugins:
        kind = plugin.get("type") if isinstance(plugin, dict) else None
        if not isinstance(kind, str) or not _TYPE.fullmatch(kind):
            raise wrong(f"the plugin type {kind!r} is no name of a program")
        if not isinstance(plugin.get("capabilities", {}), dict):
            raise wrong(f"capabilities of plugin {kind} is no object")
    try:
        version = negotiate(content.get("cniVersion", ""), content.get("cniVersions", []))
        return NetworkList(
            name=name,
            version=version,
            plugins=tuple(plugins),
            check=not _flag(content, "disableCheck"),
            collect=not _flag(content, "disableGC"),
            source=source,
        )
    except ValueError as error:
        raise wrong(str(error)) from error


def negotiate(version: object, versions: object) -> str:
    """Return the latest version of the specification that both sides know.

    Raises:
        ValueError: there is none.
    """
    offered = [version, *(versions if isinstance(versions, Sequence) else [])]
    common = [known for known in SUPPORTED if known in offered]
    if not common:
        named = ", ".join(str(item) for item in offered if item) or "none"
        raise ValueError(
            f"none of its cniVersions ({named}) is known; known are {', '.join(SUPPORTED)}"
        )
    return common[-1]


def _flag(content: dict[str, Any], name: str) -> bool:
    """Read a boolean, which the specification had as a text at first."""
    value = content.get(name, False)
    if isinstance(value, str) and value.lower() in ("true", "false"):
        value = value.lower() == "true"
    if not isinstance(value, bool):
        raise ValueError(f"{name} {value!r} is neither true nor false")
    return value
