"""Signs what is approved, for the signers that Kubernetes has.

Source: Kubernetes documentation, "Certificates and Certificate Signing Requests", "Kubernetes
signers".
"""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from controlplane.engine.controller import Context, Controller, timestamp
from controlplane.engine.resources import SIGNING_REQUESTS, Object

from .conditions import has_certificate, kinds_of

if TYPE_CHECKING:
    from cryptography import x509

    from controlplane.auth.trust.authority import Authority

_PREFIX: Final = "kubernetes.io/"
_YEAR: Final = 365 * 86400.0


class Signer(Controller):
    """Signs with the authority of two files; without them it does nothing.

    Options: ``cluster_signing_cert_file``, ``cluster_signing_key_file``, read for each signature,
    so that they may be replaced; ``cluster_signing_duration``, seconds, the longest life.
    """

    name: ClassVar[str] = "certificatesigningrequest-signing-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        options = context.options
        self._files = [
            Path(name) for name in (options.get("cluster_signing_cert_file") or "",
                                    options.get("cluster_signing_key_file") or "") if name
        ]  # fmt: skip
        self._life = timedelta(seconds=options.get("cluster_signing_duration") or _YEAR)
        if len(self._files) == 2:
            self._requests = context.informers.of(SIGNING_REQUESTS)
            self._requests.listen(self.enqueue)

    async def sync(self, key: str) -> float | None:
        """See `Controller`."""
        value = self._requests.get(key)
        if value is None or not value["spec"].get("signerName", "").startswith(_PREFIX):
            return None
        kinds = kinds_of(value)
        if has_certificate(value) or "Approved" not in kinds or kinds & {"Denied", "Failed"}:
            return None
        from .requests import SIGNERS, RequestError, check_request, parse_request

        spec = value["spec"]
        if spec["signerName"] not in SIGNERS:
            return None
        try:
            request = parse_request(value)
            check_request(spec["signerName"], request, set(spec.get("usages") or ()))
        except RequestError as error:
            await self._fail(value, str(error))
            return None
        pem = await asyncio.to_thread(self._sign, spec, request)
        status = {**(value.get("status") or {}), "certificate": base64.b64encode(pem).decode()}
        await self.context.writer.update(SIGNING_REQUESTS, {**value, "status": status}, "status")
        return None

    def _sign(self, spec: dict[str, Any], request: x509.CertificateSigningRequest) -> bytes:
        from .requests import alternatives, extended_usages, life

        usages = set(spec.get("usages") or ())
        return self._authority().sign(
            request.subject, request.public_key(), extended_usages(usages), alternatives(request),
            life(spec, self._life), encipherment="key encipherment" in usages,
        )  # fmt: skip

    def _authority(self) -> Authority:
        """Return the authority as its files are now.

        Raises:
            OSError: they cannot be read.
            TrustError: they hold no certificate and key, or those do not fit each other.
        """
        from controlplane.auth.trust.authority import (
            Authority,
            TrustError,
            load_certificate,
            load_key,
            public_pem,
        )

        certificate_file, key_file = self._files
        certificate = load_certificate(certificate_file.read_bytes(), str(certificate_file))
        key = load_key(key_file.read_bytes(), str(key_file))
        if public_pem(key.public_key()) != public_pem(certificate.public_key()):
            raise TrustError(f"{key_file} is not the key of {certificate_file}")
        return Authority(certificate, key)

    async def _fail(self, value: Object, why: str) -> None:
        condition = {
            "type": "Failed", "status": "True", "reason": "SignerValidationFailure",
            "message": why, "lastUpdateTime": timestamp(self.context.clock()),
        }  # fmt: skip
        status = value.get("status") or {}
        conditions = [*(status.get("conditions") or ()), condition]
        wanted = {**value, "status": {**status, "conditions": conditions}}
        await self.context.writer.update(SIGNING_REQUESTS, wanted, "status")
