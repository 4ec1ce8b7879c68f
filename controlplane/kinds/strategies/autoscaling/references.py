"""References to objects of any kind."""

from __future__ import annotations

import re
from typing import Final

from controlplane.api.errors import Cause
from controlplane.api.metadata import wrong
from controlplane.api.resource import Object
from controlplane.kinds.checks import check_path_segment

_GROUP_VERSION: Final = re.compile(r"[^/]*(/[^/]*)?")


def check_reference(reference: Object, path: str, *, grouped: bool = False) -> list[Cause]:
    """Return what is wrong with a reference to an object of any kind.

    Args:
        reference: ``kind``, ``name`` and ``apiVersion``.
        path: of it.
        grouped: the kind is none of the core group.
    """
    causes = check_path_segment(reference.get("kind", ""), f"{path}.kind")
    causes += check_path_segment(reference.get("name", ""), f"{path}.name")
    version = reference.get("apiVersion", "")
    if grouped and "/" not in version:
        text = "apiVersion must specify API group"
        causes.append(wrong(f"{path}.apiVersion", version, text))
    elif not _GROUP_VERSION.fullmatch(version):
        causes.append(wrong(f"{path}.apiVersion", version, "is no group/version"))
    return causes
