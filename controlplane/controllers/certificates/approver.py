"""Approves what kubelets ask for, as far as the authorizer of the server lets them.

Source: Kubernetes documentation, "TLS bootstrapping", "Approval".
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from controlplane.engine.controller import Context, Controller
from controlplane.engine.resources import SIGNING_REQUESTS, Object

from .conditions import approved, has_certificate, kinds_of

KUBELET: Final = "kubernetes.io/kube-apiserver-client-kubelet"
_REVIEWS: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
_SELF: Final = "Auto approving self kubelet client certificate after SubjectAccessReview."
_NODE: Final = "Auto approving kubelet client certificate after SubjectAccessReview."
_AGAIN: Final = 300.0
"""Seconds after which the authorizer is asked again: rights may have been given meanwhile."""


class Approver(Controller):
    """Approves client certificates of kubelets."""

    name: ClassVar[str] = "certificatesigningrequest-approving-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._requests = context.informers.of(SIGNING_REQUESTS)
        self._requests.listen(self.enqueue)

    async def sync(self, key: str) -> float | None:
        """See `Controller`."""
        value = self._requests.get(key)
        if value is None or value["spec"].get("signerName") != KUBELET:
            return None
        if has_certificate(value) or kinds_of(value) & {"Approved", "Denied"}:
            return None
        from .requests import RequestError, common_name, is_kubelet_client, parse_request

        try:
            request = parse_request(value)
        except RequestError:
            # Nobody can read it; it will be cleaned away.
            return None
        if not is_kubelet_client(value, request):
            return None
        ways = [("nodeclient", _NODE)]
        if common_name(request) == value["spec"].get("username"):
            ways.insert(0, ("selfnodeclient", _SELF))
        for below, message in ways:
            if await self._may(value["spec"], below):
                await self._approve(value, message)
                return None
        return _AGAIN

    async def _may(self, spec: dict[str, Any], below: str) -> bool:
        review = {
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {
                "user": spec.get("username", ""), "uid": spec.get("uid", ""),
                "groups": spec.get("groups") or [], "extra": spec.get("extra") or {},
                "resourceAttributes": {
                    "group": "certificates.k8s.io", "resource": SIGNING_REQUESTS.plural,
                    "verb": "create", "subresource": below, "version": "*",
                },
            },
        }  # fmt: skip
        answer = await self.context.client.create(_REVIEWS, review)
        return bool((answer.get("status") or {}).get("allowed"))

    async def _approve(self, value: Object, message: str) -> None:
        wanted = approved(value, message, self.context.clock())
        await self.context.writer.update(SIGNING_REQUESTS, wanted, "approval")
