"""Having a certificate signed: a CertificateSigningRequest, and the wait for its answer."""

from __future__ import annotations

import asyncio
import base64
import binascii
from typing import Any

from kubeletpy_common.apiclient.client import ApiClient, object_path
from kubeletpy_common.apiclient.errors import ApiError
from kubeletpy_common.apiclient.reflector import Changed, Reflector

from .pairs import CertificateError, usages

_GROUP, _RESOURCE = "certificates.k8s.io/v1", "certificatesigningrequests"


async def signed(
    api: ApiClient, request: bytes, signer: str, *, name: str = "", timeout: float
) -> bytes:
    """Return the certificate for a request, once somebody approved it.

    Args:
        api: the API server.
        request: PKCS #10, PEM.
        signer: who shall sign it.
        name: of the object; one that is there already is waited for. "": any name.
        timeout: seconds to wait for the signature.

    Raises:
        ApiError: the API server refused, or is not there.
        CertificateError: it was denied, failed, or was not signed in time.
    """
    metadata = {"name": name} if name else {"generateName": "csr-"}
    body = {
        "apiVersion": _GROUP,
        "kind": "CertificateSigningRequest",
        "metadata": metadata,
        "spec": {
            "request": base64.b64encode(request).decode(),
            "signerName": signer,
            "usages": usages(signer),
        },
    }
    try:
        made = await api.create(object_path(_GROUP, _RESOURCE), body)
    except ApiError as error:
        if not (name and error.conflict):
            raise
        made = await api.get(object_path(_GROUP, _RESOURCE, name=name))
        if (made.get("spec") or {}).get("signerName") != signer:
            raise CertificateError(
                f"certificate signing request {name} is there, and for another signer"
            ) from error
    called = str(made["metadata"]["name"])
    try:
        async with asyncio.timeout(timeout):
            return await _answer(api, called)
    except TimeoutError:
        raise CertificateError(
            f"certificate signing request {called} was not signed within {timeout:g} s; "
            f"kubectl certificate approve {called}"
        ) from None


async def _answer(api: ApiClient, name: str) -> bytes:
    selector = f"metadata.name={name}"
    path = object_path(_GROUP, _RESOURCE)
    async for each in Reflector(api, path, field_selector=selector):
        if isinstance(each, Changed):
            if each.kind == "DELETED":
                raise CertificateError(f"certificate signing request {name} was deleted")
            found = [each.object]
        else:
            found = each.items
            if not found:
                raise CertificateError(f"certificate signing request {name} is gone")
        if certificate := certificate_of(found[0]):
            return certificate
    raise CertificateError(f"certificate signing request {name} cannot be followed")


def certificate_of(request: dict[str, Any]) -> bytes:
    """Return the certificate in a request, b"" if it is not there yet (pure).

    Raises:
        CertificateError: it was denied, or failed.
    """
    name = (request.get("metadata") or {}).get("name")
    status = request.get("status") or {}
    for condition in status.get("conditions") or ():
        kind = condition.get("type")
        if kind in ("Denied", "Failed"):
            raise CertificateError(
                f"certificate signing request {name} is {kind.lower()}, reason: "
                f"{condition.get('reason', '')}, message: {condition.get('message', '')}"
            )
    try:
        return base64.b64decode(status.get("certificate") or "", validate=True)
    except binascii.Error as error:
        raise CertificateError(f"certificate signing request {name}: {error}") from error
