"""From this runtime's OCI configuration to that which an external runtime is given (pure)."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def external_configuration(config: dict[str, Any], root: Path) -> dict[str, Any]:
    """Return the configuration with what an external runtime expects otherwise.

    Args:
        config: as :func:`runtime.oci.translate.translate` made it, which is plain OCI.
        root: where the root file system is mounted for it.
    """
    return {**config, "root": {**config["root"], "path": str(root)}}
