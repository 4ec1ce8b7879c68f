"""What of an OCI configuration the built-in executor cannot carry out (pure)."""

from __future__ import annotations

from typing import Any

from runtime.oci.hooks import RUN_BY_EXECUTOR
from runtime.oci.request import TranslationError


def refuse_beyond_executor(config: dict[str, Any]) -> None:
    """Refuse what the executor would have to leave out; an external OCI runtime may know it.

    Raises:
        TranslationError: naming it.
    """
    linux = config["linux"]
    hooks = [name for name, given in config.get("hooks", {}).items() if given]
    beyond = [f"hooks of kind {name}" for name in hooks if name != RUN_BY_EXECUTOR]
    beyond += ["intelRdt"] if linux.get("intelRdt") else []
    beyond += ["netDevices"] if linux.get("netDevices") else []
    if beyond:
        raise TranslationError(
            f"the devices asked for need {', '.join(beyond)}, which the built-in runtime handler "
            "does not do; choose a runtime handler with an OCI runtime such as runc"
        )
