"""From this runtime's OCI configuration to that which an external runtime is given (pure)."""

from __future__ import annotations

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def external_configuration(config: dict[str, Any], root: str, images: str) -> dict[str, Any]:
    """Return the configuration with what only the built-in executor understands replaced.

    All else is plain OCI (runtime specification 1.2).

    Args:
        config: as :func:`runtime.oci.translate.translate` made it.
        root: where the root file system is mounted for the runtime.
        images: directory in which image volumes are mounted for it, by the number of the mount.
    """
    mounts = [
        _bind(mount, f"{images}/{number}") if mount.get("type") == "image" else mount
        for number, mount in enumerate(config.get("mounts", []))
    ]
    # crun 1.8 refuses every minor version but 1.0; what is newer than that is seen by its
    # fields, which is where runtimes look.
    version = {"ociVersion": "1.0.2"}
    return {**config, **version, "root": {**config["root"], "path": root}, "mounts": mounts}


def _bind(mount: dict[str, Any], source: str) -> dict[str, Any]:
    options = ["bind", *mount.get("options", [])]
    bind = {"destination": mount["destination"], "type": "bind", "source": source}
    return {**bind, "options": options}
