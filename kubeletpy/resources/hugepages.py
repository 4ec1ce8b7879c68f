"""Huge pages: names of resources and of sizes (pure)."""

from __future__ import annotations

from collections.abc import Mapping

from kubeletpy.api.quantity import Quantity

PREFIX = "hugepages-"
_UNITS = ((1024**3, "GB"), (1024**2, "MB"), (1024, "KB"))


def page_size(resource: str) -> int | None:
    """Return the size of the pages of a resource such as ``hugepages-2Mi``; None if it has none."""
    if not resource.startswith(PREFIX):
        return None
    try:
        size = int(Quantity(resource.removeprefix(PREFIX)))
    except ValueError:
        return None
    return size if size > 0 else None


def size_name(size: int) -> str:
    """Return a size in bytes as the kernel names its files: ``2MB``."""
    for factor, unit in _UNITS:
        if size >= factor:
            return f"{size // factor}{unit}"
    return f"{size}B"


def by_size(amounts: Mapping[str, Quantity]) -> dict[int, int]:
    """Return the bytes of huge pages in ``amounts`` by page size in bytes."""
    found: dict[int, int] = {}
    for name, amount in amounts.items():
        size = page_size(name)
        if size is not None:
            found[size] = found.get(size, 0) + int(amount)
    return found
