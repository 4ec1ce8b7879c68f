"""What CNI plugins fail with, in words."""

from __future__ import annotations

from typing import Final

from runtime.network.errors import NetworkError

# Specification 1.1, section 2, "Error".
_MEANINGS: Final = {
    1: "incompatible CNI version",
    2: "unsupported field in the configuration",
    3: "container unknown or does not exist",
    4: "invalid environment variables",
    5: "I/O failure",
    6: "failed to decode content",
    7: "invalid network configuration",
    11: "try again later",
    50: "not available, no pod can be added",
    51: "not available, and pods in the network may have limited connectivity",
}


class CniError(NetworkError):
    """A plugin failed.

    Attributes:
        plugin: its type, which is the name of its program.
        command: what it was asked for, as in "ADD".
        code: of its error result; None if it gave none.
    """

    def __init__(self, plugin: str, command: str, code: int | None, text: str) -> None:
        self.plugin = plugin
        self.command = command
        self.code = code
        known = _MEANINGS.get(code) if code is not None else None
        number = "" if code is None else f" with code {code}" + (f" ({known})" if known else "")
        super().__init__(f"CNI plugin {plugin} failed at {command}{number}: {text}")
