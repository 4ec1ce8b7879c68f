"""Puts tokens of service accounts into the Secrets that ask for one.

Source: Kubernetes documentation, "Managing Service Accounts", "Token controller".
"""

from __future__ import annotations

import asyncio
import copy
from pathlib import Path
from typing import ClassVar

from controlplane.auth.tokens.legacy import (
    ACCOUNT,
    ACCOUNT_UID,
    TYPE,
    TokenSigner,
    filled,
    is_full,
)
from controlplane.engine.controller import Context, Controller, OptionError
from controlplane.engine.resources import ACCOUNTS, SECRETS, Object, is_deleting, key_of
from kubeletpy_common.apiclient.errors import ApiError


class TokenController(Controller):
    """Fills Secrets of service accounts, and deletes those whose account is gone.

    Options of the context: ``service_account_private_key_file``; without it nothing is done.
    ``root_ca_file``: what the Secrets say signs the server's certificate; without it that of the
    kubeconfig.

    Raises:
        OptionError: the key cannot be used.
    """

    name: ClassVar[str] = "serviceaccount-token-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        file = context.options.get("service_account_private_key_file") or ""
        self._signer = signer_of(Path(file)) if file else None
        root = context.options.get("root_ca_file") or ""
        self._authority = Path(root).read_bytes() if root else context.client.access.ca
        if self._signer is None:
            return
        self._secrets = context.informers.of(SECRETS, field_selector=f"type={TYPE}")
        self._accounts = context.informers.of(ACCOUNTS)
        self._secrets.index("account", _account_of)
        self._secrets.listen(self.enqueue)
        self._accounts.listen(self._account_changed)

    async def run(self) -> None:
        """Work, until cancelled."""
        if self._signer is None:
            await asyncio.Event().wait()
        await super().run()

    def _account_changed(self, before: Object | None, account: Object | None) -> None:
        found = account or before
        assert found is not None
        for secret in self._secrets.indexed("account", key_of(found)):
            self.queue.add(key_of(secret))

    async def sync(self, key: str) -> float | None:
        """Look at a Secret, see `Controller.sync`."""
        secret = self._secrets.get(key)
        if secret is None or is_deleting(secret) or not _account_of(secret):
            return None
        account = await self._account(secret)
        known_uid = secret["metadata"]["annotations"].get(ACCOUNT_UID, "")
        try:
            if account is None or (known_uid and known_uid != account["metadata"]["uid"]):
                await self.context.writer.delete(SECRETS, secret)
            elif not known_uid or not is_full(
                secret, secret["metadata"]["namespace"], self._authority
            ):
                await self._fill(secret, account)
        except ApiError as error:
            if not error.not_found:
                raise
        return None

    async def _account(self, secret: Object) -> Object | None:
        """Return the account of a Secret; one that memory does not have is asked for."""
        namespace, _, name = _account_of(secret)[0].partition("/")
        known = self._accounts.find(namespace, name)
        if known is not None:
            return known
        try:
            return await self.context.client.get(ACCOUNTS.path(namespace, name))
        except ApiError as error:
            if error.not_found:
                return None
            raise

    async def _fill(self, secret: Object, account: Object) -> None:
        assert self._signer is not None
        wanted = filled(copy.deepcopy(secret), account["metadata"], self._signer, self._authority)
        self._secrets.learn(await self.context.writer.update(SECRETS, wanted))


def signer_of(path: Path) -> TokenSigner:
    """Return what signs with a key.

    Raises:
        OptionError: it cannot be read.
    """
    from controlplane.auth.trust.authority import TrustError, load_key

    try:
        return TokenSigner(load_key(path.read_bytes(), str(path)))
    except (OSError, TrustError) as error:
        raise OptionError(f"--service-account-private-key-file: {error}") from None


def _account_of(secret: Object) -> list[str]:
    """Return the key of the account that a Secret asks for (pure)."""
    meta = secret["metadata"]
    name = (meta.get("annotations") or {}).get(ACCOUNT, "")
    return [f"{meta['namespace']}/{name}"] if name and secret.get("type") == TYPE else []
