"""Which rule set a mode of the proxy means; the chosen one alone is imported."""

from __future__ import annotations

import importlib

from .backend import Backend, RuleOptions

MODES = {
    "iptables": ("proxy.iptables.backend", "IptablesBackend"),
    "nftables": ("proxy.nftables.backend", "NftablesBackend"),
}
"""The modes, and where the rule set of each is."""
DEFAULT_MODE = "iptables"


class ModeError(Exception):
    """There is no such mode, or it cannot be used on this machine; the message says why."""


def open_backend(mode: str, options: RuleOptions) -> Backend:
    """Return the rule set of a mode for one family; "" is the default one.

    Raises:
        ModeError: the mode does not exist or cannot be used here.
    """
    try:
        module, name = MODES[mode or DEFAULT_MODE]
    except KeyError:
        raise ModeError(f"proxy mode {mode!r} is not one of {', '.join(MODES)}") from None
    try:
        made: Backend = getattr(importlib.import_module(module), name)(options)
    except (ImportError, AttributeError) as error:
        raise ModeError(f"proxy mode {mode or DEFAULT_MODE}: not usable: {error}") from error
    return made
