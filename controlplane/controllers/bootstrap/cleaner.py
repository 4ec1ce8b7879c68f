"""Deletes bootstrap tokens that are over.

Source: Kubernetes documentation, "Authenticating with Bootstrap Tokens".
"""

from __future__ import annotations

from typing import ClassVar

from controlplane.engine.controller import Context, Controller
from controlplane.engine.resources import SECRETS, is_deleting
from kubeletpy_common.bootstrap_tokens import expiration, is_expired, texts

from .signer import TOKENS_ONLY


class TokenCleaner(Controller):
    """Deletes each token when its time has come, and at once if its end cannot be read."""

    name: ClassVar[str] = "token-cleaner-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._tokens = context.informers.of(SECRETS, field_selector=TOKENS_ONLY)
        self._tokens.listen(self.enqueue)

    async def sync(self, key: str) -> float | None:
        """See `Controller`."""
        secret = self._tokens.get(key)
        if secret is None or is_deleting(secret):
            return None
        data, now = texts(secret), self.context.clock()
        if is_expired(data, now):
            await self.context.writer.delete(SECRETS, secret)
            return None
        end = expiration(data)
        return (end - now).total_seconds() if end is not None else None
