"""The former place of the settings; see `kubeletpy.settings`."""

from __future__ import annotations

from .settings import ConfigurationError, Settings

__all__ = ["ConfigurationError", "Settings"]
