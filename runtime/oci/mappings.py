"""User and group id mappings (user_namespaces(7)), as an OCI configuration has them (pure)."""

from __future__ import annotations

from itertools import pairwise

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

Mapping = dict[str, int]
"""``containerID``, ``hostID`` and ``size`` (OCI config-linux.md, "User namespace mappings")."""

# user_namespaces(7): lines of a map; all of them must fit into one page as well.
MAX_MAPPINGS: Final = 340
_PAGE: Final = 4096
# The last number means "no id" to the kernel.
_MAX_ID: Final = (1 << 32) - 2


class MappingError(ValueError):
    """The kernel would not take these mappings, or they would not confine."""


def check_mappings(mappings: Sequence[Mapping], what: str) -> None:
    """Refuse mappings that are oversized, overlap, leave out 0 inside, or hold 0 of the host.

    Nothing is cut or wrapped: a length that overflowed once made a container's root that of the
    host (CVE-2021-43784).

    Args:
        mappings: of one kind, users or groups.
        what: how errors call them.

    Raises:
        MappingError: naming the mapping.
    """
    if not 0 < len(mappings) <= MAX_MAPPINGS or len(map_text(mappings)) >= _PAGE:
        raise MappingError(
            f"{what}: {len(mappings)} id mappings; a user namespace takes 1 to {MAX_MAPPINGS}, in "
            f"less than {_PAGE} bytes"
        )
    for mapping in mappings:
        size = mapping["size"]
        if size < 1:
            raise MappingError(f"{what}: {mapping} maps no id")
        for key in ("containerID", "hostID"):
            if mapping[key] < 0 or mapping[key] + size - 1 > _MAX_ID:
                raise MappingError(f"{what}: {mapping} goes beyond the last id, {_MAX_ID}")
        if mapping["hostID"] == 0:
            raise MappingError(f"{what}: {mapping} would make the host's root part of the pod")
    for key in ("containerID", "hostID"):
        ranges = sorted((mapping[key], mapping[key] + mapping["size"]) for mapping in mappings)
        if any(one[1] > other[0] for one, other in pairwise(ranges)):
            raise MappingError(f"{what}: the ranges of {key} overlap")
    if to_host(mappings, 0) is None:
        raise MappingError(f"{what}: id 0 of the container is not mapped")


def to_host(mappings: Sequence[Mapping], inside: int) -> int | None:
    """Return the host's id of a container's, None if it has none."""
    for mapping in mappings:
        offset = inside - mapping["containerID"]
        if 0 <= offset < mapping["size"]:
            return mapping["hostID"] + offset
    return None


def map_text(mappings: Sequence[Mapping]) -> str:
    """Return the content of ``uid_map`` or ``gid_map``."""
    return "".join(f"{m['containerID']} {m['hostID']} {m['size']}\n" for m in mappings)


def host_owner(config: dict[str, Any], uid: int, gid: int) -> tuple[int, int]:
    """Return the host's user and group of a container's; unchanged without a user namespace.

    An id that is not mapped becomes that of the container's root: it has no name outside.
    """
    linux = config["linux"]
    uids, gids = linux.get("uidMappings", []), linux.get("gidMappings", [])
    if not uids or not gids:
        return uid, gid
    user, group = to_host(uids, uid), to_host(gids, gid)
    root, root_group = to_host(uids, 0), to_host(gids, 0)
    assert root is not None
    assert root_group is not None
    return (root if user is None else user), (root_group if group is None else group)
