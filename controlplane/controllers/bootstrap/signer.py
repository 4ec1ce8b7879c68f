"""Signs ``kube-public/cluster-info`` by each bootstrap token that is for signing.

A new node that knows the token sees by that who the cluster is.

Source: Kubernetes documentation, "Authenticating with Bootstrap Tokens", "ConfigMap Signing".
"""

from __future__ import annotations

from typing import ClassVar, Final

from controlplane.engine.controller import Context, Controller
from controlplane.engine.resources import CONFIG_MAPS, SECRETS, Object
from kubeletpy_common.apiclient.errors import ApiError
from kubeletpy_common.bootstrap_tokens import (
    INFO_NAME,
    INFO_NAMESPACE,
    NAMESPACE,
    SECRET_TYPE,
    expiration,
    signed_data,
    signing_token,
    texts,
)

TOKENS_ONLY: Final = f"type={SECRET_TYPE},metadata.namespace={NAMESPACE}"
_INFO_ONLY: Final = f"metadata.name={INFO_NAME},metadata.namespace={INFO_NAMESPACE}"
_KEY: Final = f"{INFO_NAMESPACE}/{INFO_NAME}"


class BootstrapSigner(Controller):
    """Keeps the signatures: one for each token, none of tokens that are gone or over."""

    name: ClassVar[str] = "bootstrap-signer-controller"
    workers: ClassVar[int] = 1

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._tokens = context.informers.of(SECRETS, field_selector=TOKENS_ONLY)
        self._infos = context.informers.of(CONFIG_MAPS, field_selector=_INFO_ONLY)
        for each in (self._tokens, self._infos):
            each.listen(self._changed)

    def _changed(self, before: Object | None, value: Object | None) -> None:
        self.queue.add(_KEY)

    async def sync(self, key: str) -> float | None:
        """See `Controller`; there is one key."""
        info = self._infos.get(key)
        if info is None:
            return None
        now = self.context.clock()
        tokens: dict[str, str] = {}
        ends: list[float] = []
        for secret in self._tokens:
            found = signing_token(secret, now)
            if found is None:
                continue
            tokens[found[0]] = found[1]
            end = expiration(texts(secret))
            if end is not None:
                ends.append((end - now).total_seconds())
        data = signed_data(info.get("data") or {}, tokens)
        if data is not None:
            try:
                await self.context.writer.update(CONFIG_MAPS, {**info, "data": data})
            except ApiError as error:
                # Changed meanwhile, which brings the key back; or gone.
                if not (error.conflict or error.not_found):
                    raise
        return min(ends, default=None)
