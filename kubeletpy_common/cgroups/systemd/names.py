"""Names of slices and scopes, and the cgroup paths they stand for (pure; systemd.slice(5))."""

from __future__ import annotations

import errno
import re
from typing import Final

from kubeletpy_common.cgroups.errors import CgroupError

SLICE: Final = ".slice"
SCOPE: Final = ".scope"
_ROOT_SLICE: Final = "-.slice"
# systemd.unit(5): a unit name has at most 255 characters of these.
_UNIT_NAME: Final = re.compile(r"[A-Za-z0-9:_.\\@-]{1,255}")


def slice_path(parent: str) -> str:
    """Return the cgroup path of a slice: ``/a.slice/a-b.slice`` for ``a-b.slice``.

    Dashes in the name of a slice are its place: ``a-b.slice`` is inside ``a.slice``.

    Args:
        parent: its name, or its whole path as a kubelet gives it.

    Raises:
        CgroupError: (EINVAL) not the name of a slice, or a path that is not the name's.
    """
    name = parent.rstrip("/").rpartition("/")[2]
    if not name.endswith(SLICE) or not _UNIT_NAME.fullmatch(name):
        raise _invalid(parent, "it does not end in the name of a slice, like kubepods.slice")
    if name == _ROOT_SLICE:
        path = "/"
    else:
        parts = name.removesuffix(SLICE).split("-")
        if "" in parts:
            raise _invalid(parent, "a slice's name has no dash at an end and no two in a row")
        chain = ("-".join(parts[: n + 1]) for n in range(len(parts)))
        path = "".join(f"/{part}{SLICE}" for part in chain)
    if "/" in parent and parent.rstrip("/") != path.rstrip("/"):
        raise _invalid(parent, f"the slice {name} has the path {path}")
    return path


def child_slice(parent: str, name: str) -> str:
    """Return the path of the slice ``name`` in the slice of the path ``parent``.

    Args:
        parent: as of :func:`slice_path`.
        name: letters and digits; dashes become underscores, for they would be levels.

    Raises:
        CgroupError: (EINVAL) the name has other characters.
    """
    above = slice_path(parent)
    stem = above.rpartition("/")[2].removesuffix(SLICE)
    own = name.replace("-", "_")
    return slice_path(f"{stem}-{own}{SLICE}" if stem else f"{own}{SLICE}")


def scope_path(parent: str, prefix: str, container_id: str) -> str:
    """Return the path of a container's scope, ``<slice's path>/<prefix>-<id>.scope``.

    Raises:
        CgroupError: (EINVAL) ``parent`` is no slice, or the name is none of a unit.
    """
    name = f"{prefix}-{container_id}{SCOPE}"
    if not _UNIT_NAME.fullmatch(name):
        raise _invalid(name, "it is no name of a unit")
    return f"{slice_path(parent).rstrip('/')}/{name}"


def unit_of(path: str) -> str:
    """Return the unit whose cgroup ``path`` is; "" if it is none that this driver makes."""
    above, _, name = path.rpartition("/")
    if name.endswith(SLICE):
        own = path
    elif name.endswith(SCOPE):
        own = above or f"/{_ROOT_SLICE}"
    else:
        return ""
    try:
        return name if slice_path(own) in (own, "/") else ""
    except CgroupError:
        return ""


def slice_of(path: str) -> str:
    """Return the slice that holds the unit of the cgroup ``path``."""
    return path.rpartition("/")[0].rpartition("/")[2] or _ROOT_SLICE


def _invalid(what: str, reason: str) -> CgroupError:
    remedy = "give a slice, like kubepods-burstable.slice, or its path"
    return CgroupError(errno.EINVAL, repr(what), "invalid with the systemd driver", reason, remedy)
