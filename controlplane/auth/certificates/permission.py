"""Who may approve and sign which requests, and what nobody may ask for.

Source: Kubernetes documentation, "Certificate Signing Requests", "Authorization"; admission
plug-ins CertificateApproval, CertificateSigning, CertificateSubjectRestriction.
"""

from __future__ import annotations

from typing import Final

from controlplane.admission.refusals import forbidden
from controlplane.api.identity import MASTERS
from controlplane.api.resource import Context, Object, Resource
from controlplane.auth.authorization.attributes import Attributes, Authorizer
from controlplane.controllers.certificates.requests import (
    CLIENT,
    RequestError,
    organizations,
    parse_request,
)

GROUP: Final = "certificates.k8s.io"
PLURAL: Final = "certificatesigningrequests"


class CertificatePermission:
    """Checks writes of CertificateSigningRequests.

    Args:
        authorizer: of the verbs ``approve`` and ``sign`` on signers.
    """

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    async def admit(
        self, resource: Resource, value: Object, old: Object | None, context: Context
    ) -> None:
        """Refuse what the user may not.

        Raises:
            ApiError: it is refused.
        """
        if (resource.group, resource.plural) != (GROUP, PLURAL):
            return
        if old is None:
            _say_who(value, context)
            self._check_subject(resource, value)
            return
        # Approval is for what was asked for, by whom it was asked.
        value["spec"] = old["spec"]
        if context.subresource == "approval":
            self._check(resource, value, old, context, "approve")
        elif context.subresource == "status":
            before, after = old.get("status", {}), value.get("status", {})
            # Signers write certificates, and that they failed.
            if any(before.get(key) != after.get(key) for key in ("certificate", "conditions")):
                self._check(resource, value, old, context, "sign")

    def _check_subject(self, resource: Resource, value: Object) -> None:
        if value.get("spec", {}).get("signerName") != CLIENT:
            return
        try:
            groups = organizations(parse_request(value))
        except RequestError:
            # The checks of the kind say what is wrong with it.
            return
        if MASTERS in groups:
            why = f"use of {CLIENT} signer with {MASTERS} group is not allowed"
            raise forbidden(resource, value["metadata"], why)

    def _check(
        self, resource: Resource, value: Object, old: Object, context: Context, verb: str
    ) -> None:
        signer = old["spec"].get("signerName", "")
        domain = signer.partition("/")[0]
        for name in (signer, f"{domain}/*"):
            wanted = Attributes(context.user, verb, GROUP, "*", "signers", name=name)
            if self._authorizer.authorize(wanted)[0]:
                return
        why = f'user not permitted to {verb} requests with signerName "{signer}"'
        raise forbidden(resource, value["metadata"], why)


def _say_who(value: Object, context: Context) -> None:
    user, spec = context.user, value.setdefault("spec", {})
    told = {
        "username": user.name,
        "uid": user.uid,
        "groups": list(user.groups),
        "extra": {key: list(values) for key, values in user.extra.items()},
    }
    for key, item in told.items():
        spec.pop(key, None)
        if item:
            spec[key] = item
