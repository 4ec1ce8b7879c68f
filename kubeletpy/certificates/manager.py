"""Renewing a certificate when 70 to 90% of its life are over, or when it must say more."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from kubeletpy_common import logs
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.errors import ApiError
from kubeletpy_common.atomic import write_atomic

from .pairs import CertificateError, KeyPair, Template, digested_name, new_key, request_pem, usages
from .signing import signed
from .store import CertificateStore

_log = logging.getLogger(__name__)
EARLIEST, LATEST = 0.7, 0.9
"""Parts of a certificate's life between which it is renewed, at random."""
WAIT = 15 * 60.0
"""Seconds that a request is waited for before another one is made; the Go kubelet's."""
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 32.0
_LONGEST_SLEEP = 3600.0
"""Seconds after which the clock is looked at again: it may have been changed."""

Requester: TypeAlias = Callable[[], AbstractAsyncContextManager[ApiClient]]


def deadline(pair: KeyPair, share: float) -> datetime:
    """Return when a certificate is to be renewed; ``share`` of its life is over then (pure)."""
    return pair.not_before + (pair.not_after - pair.not_before) * share


class CertificateManager:
    """Keeps one certificate valid.

    Args:
        store: where it is.
        signer: who signs it.
        template: returns what it must say; None: not known yet.
        requester: opens the client with which it is asked for.
        renewed: awaited after each renewal.
        force: the current one is to be replaced at once.
        told: called with the seconds that the one before lived, after each renewal of one; None: a
            renewal failed.
    """

    def __init__(
        self,
        store: CertificateStore,
        signer: str,
        template: Callable[[], Template | None],
        requester: Requester,
        renewed: Callable[[], Awaitable[None]],
        *,
        force: bool = False,
        told: Callable[[float | None], None] = lambda lived: None,
    ) -> None:
        self._told = told
        self._store = store
        self._signer = signer
        self._template = template
        self._requester = requester
        self._renewed = renewed
        self._force = force
        self._wake = asyncio.Event()
        self._share = random.uniform(EARLIEST, LATEST)

    def changed(self) -> None:
        """Have the template looked at again."""
        self._wake.set()

    async def run(self, *, once: bool = False) -> None:
        """Keep the certificate valid for ever; ``once``: until it is there."""
        pause = FIRST_PAUSE
        while True:
            self._wake.clear()
            seconds = self._due_in()
            if seconds > 0:
                if once:
                    return
                await self._sleep(min(seconds, _LONGEST_SLEEP))
                continue
            try:
                await self._renew()
                pause = FIRST_PAUSE
            except (ApiError, CertificateError, OSError) as error:
                if isinstance(error, CertificateError):
                    # What was denied is so for ever: the next request is another one.
                    self._store.pending_key.unlink(missing_ok=True)
                self._told(None)
                logs.event(
                    _log, logging.WARNING, "certificate cannot be had; it is tried again",
                    signer=self._signer, reason=str(error), after_s=pause,
                )  # fmt: skip
                await asyncio.sleep(pause * random.uniform(1.0, 1.1))
                pause = min(pause * 2, LONGEST_PAUSE)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _due_in(self) -> float:
        """Return the seconds until a new certificate is to be asked for."""
        template = self._template()
        if template is None:
            return _LONGEST_SLEEP
        try:
            pair = self._store.current()
        except CertificateError as error:
            logs.event(_log, logging.WARNING, "certificate is replaced", reason=str(error))
            return 0
        if self._force or pair is None or not pair.satisfies(template):
            return 0
        return (deadline(pair, self._share) - datetime.now(UTC)).total_seconds()

    async def _renew(self) -> None:
        template = self._template()
        assert template is not None
        before = self._store.current_or_none()
        first = before is None
        key = self._pending_key() if first else new_key()
        name = digested_name(key, template.node, usages(self._signer)) if first else ""
        logs.event(_log, logging.INFO, "certificate is asked for", signer=self._signer)
        async with self._requester() as api:
            certificate = await signed(
                api, request_pem(template, key), self._signer, name=name, timeout=WAIT
            )
        pair = self._store.update(certificate, key)
        if before is not None:
            self._told((datetime.now(UTC) - before.not_before).total_seconds())
        self._force = False
        self._share = random.uniform(EARLIEST, LATEST)
        logs.event(
            _log, logging.INFO, "certificate signed", signer=self._signer,
            until=pair.not_after.isoformat(),
        )  # fmt: skip
        await self._renewed()

    def _pending_key(self) -> bytes:
        """Return the key of a request that was made before a restart, or a new one, kept."""
        path: Path = self._store.pending_key
        try:
            return path.read_bytes()
        except FileNotFoundError:
            key = new_key()
            self._store.make_directory()
            write_atomic(path, key, mode=0o600, sync=True)
            return key
