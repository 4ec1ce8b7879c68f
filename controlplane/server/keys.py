"""What middlewares leave on a request for those behind them."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from controlplane.api.identity import User
from controlplane.server.request import RequestInfo

INFO: Final = web.RequestKey[RequestInfo | None]("info")
"""What the path asks for; None: it is no resource's."""

USER: Final = web.RequestKey[User]("user")
"""Who asks, once authenticated."""
