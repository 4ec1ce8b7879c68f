"""Approving what kubelets ask for, and signing what is approved, as it comes.

Source: Kubernetes documentation, "TLS bootstrapping", "Kubernetes signers".
"""

from __future__ import annotations

import base64
import logging
from datetime import timedelta
from typing import Final

from controlplane.api import codec, metadata
from controlplane.api.errors import ApiError
from controlplane.api.identity import User
from controlplane.api.resource import Context, Object
from controlplane.auth.authorization.attributes import Attributes, Authorizer
from controlplane.auth.certificates.permission import GROUP, PLURAL
from controlplane.auth.trust.authority import Authority
from controlplane.controllers.certificates.requests import (
    SIGNERS,
    RequestError,
    alternatives,
    check_request,
    common_name,
    extended_usages,
    is_kubelet_client,
    life,
    parse_request,
)
from controlplane.plane import Plane
from controlplane.store.model import CompactedError, Item
from kubeletpy_common import logs

_log = logging.getLogger(__name__)
_SELF: Final = "Auto approving self kubelet client certificate after SubjectAccessReview."
_NODE: Final = "Auto approving kubelet client certificate after SubjectAccessReview."


class Signer:
    """Approves and signs.

    Args:
        plane: the parts.
        authority: that signs.
        authorizer: says whose requests approve themselves.
    """

    def __init__(self, plane: Plane, authority: Authority, authorizer: Authorizer) -> None:
        self._plane = plane
        self._authority = authority
        self._authorizer = authorizer
        resource = plane.catalog.find(GROUP, "v1", PLURAL)
        assert resource is not None
        self._resource = resource

    async def run(self) -> None:
        """Look at every request, and at each change of one."""
        store = self._plane.store
        while True:
            watch = store.watch(self._resource.prefix, store.revision)
            try:
                for item in store.read(self._resource.prefix).items:
                    await self._look(item)
                while await watch.wait():
                    for change in watch.take():
                        if change.item is not None:
                            await self._look(change.item)
                return
            except CompactedError:
                continue
            finally:
                watch.close()

    async def _look(self, item: Item) -> None:
        value = codec.decode(item)
        status = value.get("status", {})
        kinds = {one.get("type") for one in status.get("conditions") or ()}
        if status.get("certificate") or kinds & {"Denied", "Failed"}:
            return
        if value["spec"].get("signerName") not in SIGNERS:
            return
        try:
            if "Approved" in kinds:
                await self._sign(value)
            else:
                await self._approve(value)
        except RequestError as error:
            name = value["metadata"]["name"]
            logs.event(_log, logging.WARNING, "not signed", request=name, error=str(error))
        except ApiError as error:
            if error.reason not in ("NotFound", "Conflict"):
                raise

    async def _approve(self, value: Object) -> None:
        message = self._approval(value)
        if not message:
            return
        condition = {"type": "Approved", "status": "True", "reason": "AutoApproved",
                     "message": message, "lastUpdateTime": metadata.now()}  # fmt: skip
        await self._update(value, "approval", {"conditions": [condition]})

    def _approval(self, value: Object) -> str:
        """Return why a request is approved at once; "": somebody else has to."""
        request, spec = parse_request(value), value["spec"]
        if not is_kubelet_client(value, request):
            return ""
        extra = {key: tuple(items) for key, items in (spec.get("extra") or {}).items()}
        user = User(spec.get("username", ""), spec.get("uid", ""),
                    tuple(spec.get("groups") or ()), extra)  # fmt: skip
        for below, message in (("selfnodeclient", _SELF), ("nodeclient", _NODE)):
            if below == "selfnodeclient" and common_name(request) != user.name:
                continue
            wanted = Attributes(user, "create", GROUP, "*", PLURAL, below)
            if self._authorizer.authorize(wanted)[0]:
                return message
        return ""

    async def _sign(self, value: Object) -> None:
        spec = value["spec"]
        usages = set(spec.get("usages") or ())
        request = parse_request(value)
        try:
            check_request(spec["signerName"], request, usages)
        except RequestError as error:
            condition = {"type": "Failed", "status": "True", "reason": "SignerValidationFailure",
                         "message": str(error), "lastUpdateTime": metadata.now()}  # fmt: skip
            await self._update(value, "status", {"conditions": [condition]})
            return
        pem = self._authority.sign(
            request.subject,
            request.public_key(),
            extended_usages(usages),
            alternatives(request),
            life(spec, timedelta(seconds=self._plane.options.cluster_signing_duration)),
            encipherment="key encipherment" in usages,
        )
        await self._update(value, "status", {"certificate": base64.b64encode(pem).decode()})

    async def _update(self, value: Object, subresource: str, added: Object) -> None:
        uid = value["metadata"]["uid"]

        async def change(found: Object) -> Object:
            status = found.get("status") or {}
            if found["metadata"]["uid"] != uid or status.get("certificate"):
                return found
            conditions = [*(status.get("conditions") or ()), *added.get("conditions", ())]
            found["status"] = {**status, **added}
            if conditions:
                found["status"]["conditions"] = conditions
            return found

        name = value["metadata"]["name"]
        context = Context(
            now=metadata.now(), manager="kube-controller-manager", name=name,
            subresource=subresource,
        )  # fmt: skip
        await self._plane.registry.update(self._resource, "", name, change, context)
