"""The image config: what an image says about the processes that run from it.

OCI image specification, config.md. Parsed defensively: a hostile config must not cost memory or
crash the daemon, so counts and lengths are bounded and every type is checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from runtime.images.digests import algorithm_of
from runtime.images.errors import MalformedImage
from runtime.images.manifest import MAX_LAYERS, load_json
from runtime.images.platforms import Platform

_MAX_ITEMS: Final = 10_000
_UNKNOWN: Final = Platform("", "")


@dataclass(frozen=True)
class ImageConfig:
    """The defaults that an image gives to its containers; names follow the specification.

    Attributes:
        user: ``uid``, ``uid:gid``, ``name`` or ``name:group``, verbatim; empty means root.
        env: ``KEY=value`` each.
        entrypoint: the command's first part; empty if none.
        cmd: default arguments, or the command if there is no entrypoint.
        working_dir: absolute path in the image, or empty.
        stop_signal: name or number, or empty.
        volumes: paths in the image that want a volume, sorted; not to be trusted.
        labels: free text.
        exposed_ports: such as ``80/tcp``, sorted.
        platform: what the image is built for.
        created: RFC 3339, or empty.
        diff_ids: digests of the uncompressed layers, bottom first.
    """

    user: str = ""
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str = ""
    stop_signal: str = ""
    volumes: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    exposed_ports: tuple[str, ...] = ()
    platform: Platform = _UNKNOWN
    created: str = ""
    diff_ids: tuple[str, ...] = ()


class _Fields:
    """Typed access to a JSON object; names what is wrong."""

    def __init__(self, value: Any, what: str) -> None:
        if value is not None and not isinstance(value, dict):
            raise MalformedImage(f"{what} is not an object")
        self._value: dict[str, Any] = value or {}
        self._what = what

    def text(self, key: str) -> str:
        value = self._value.get(key)
        if value is None:
            return ""
        return self._checked(value, key)

    def _checked(self, value: Any, key: str) -> str:
        if not isinstance(value, str):
            raise MalformedImage(f"{self._what}.{key} holds what is not a string")
        # A NUL ends a string in execve(2): what was checked would not be what runs. A lone
        # surrogate ("\ud800" in JSON) is no text at all.
        if "\0" in value:
            raise MalformedImage(f"{self._what}.{key} holds a NUL character")
        try:
            value.encode()
        except UnicodeEncodeError:
            raise MalformedImage(f"{self._what}.{key} is not valid Unicode") from None
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._value.get(key)
        if value is None:
            return ()
        if not isinstance(value, list) or len(value) > _MAX_ITEMS:
            raise MalformedImage(f"{self._what}.{key} is not a list of at most {_MAX_ITEMS}")
        return tuple(self._checked(item, key) for item in value)

    def keys(self, key: str) -> tuple[str, ...]:
        value = self._mapping(key)
        return tuple(sorted(self._checked(item, key) for item in value))

    def pairs(self, key: str) -> tuple[tuple[str, str], ...]:
        value = self._mapping(key)
        return tuple(
            (self._checked(name, key), self._checked(item, key)) for name, item in value.items()
        )

    def _mapping(self, key: str) -> dict[Any, Any]:
        value = self._value.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict) or len(value) > _MAX_ITEMS:
            raise MalformedImage(f"{self._what}.{key} is not a mapping of at most {_MAX_ITEMS}")
        return value


def parse_config(data: bytes, what: str) -> ImageConfig:
    """Parse an image config.

    Args:
        data: the blob, already checked against its digest.
        what: named in errors, such as the image reference.

    Raises:
        MalformedImage: it is broken or exceeds a bound.
    """
    document = load_json(data, f"{what}.config")
    top = _Fields(document, f"{what}.config")
    inner = _Fields(document.get("config"), f"{what}.config.config")
    root = _Fields(document.get("rootfs"), f"{what}.config.rootfs")
    if root.text("type") not in ("", "layers"):
        raise MalformedImage(f"{what}.config.rootfs.type is not 'layers'")
    diff_ids = root.texts("diff_ids")
    if len(diff_ids) > MAX_LAYERS:
        raise MalformedImage(f"{what}.config.rootfs has more than {MAX_LAYERS} diff_ids")
    for diff_id in diff_ids:
        algorithm_of(diff_id)
    return ImageConfig(
        user=inner.text("User"),
        env=inner.texts("Env"),
        entrypoint=inner.texts("Entrypoint"),
        cmd=inner.texts("Cmd"),
        working_dir=inner.text("WorkingDir"),
        stop_signal=inner.text("StopSignal"),
        volumes=inner.keys("Volumes"),
        labels=inner.pairs("Labels"),
        exposed_ports=inner.keys("ExposedPorts"),
        platform=Platform(top.text("os"), top.text("architecture"), top.text("variant")),
        created=top.text("created"),
        diff_ids=diff_ids,
    )
