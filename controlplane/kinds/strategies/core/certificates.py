"""CertificateSigningRequest; signing is controlplane/auth.

Source: Kubernetes documentation, "Certificates and Certificate Signing Requests"; API reference.
"""

from __future__ import annotations

import base64
import re
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from controlplane.api.errors import Cause
from controlplane.api.formats import subdomain_problems
from controlplane.api.metadata import duplicate, forbidden, required, unsupported, wrong
from controlplane.api.resource import AGE, Column, Context, Object, Strategy
from controlplane.server.tables import duration

_USAGES: Final = [
    "any", "cert sign", "client auth", "code signing", "content commitment", "crl sign",
    "data encipherment", "decipher only", "digital signature", "email protection",
    "encipher only", "ipsec end system", "ipsec tunnel", "ipsec user", "key agreement",
    "key encipherment", "microsoft sgc", "netscape sgc", "ocsp signing", "s/mime", "server auth",
    "signing", "timestamping",
]  # fmt: skip
_APPROVED, _DENIED, _FAILED = "Approved", "Denied", "Failed"
_LEGACY: Final = "kubernetes.io/legacy-unknown"
_SHORTEST: Final = 600
_PEM: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s.*?-----END \1-----", re.DOTALL)


class SigningRequestStrategy(Strategy):
    """See the module."""

    generation = False
    names = "path"
    selectable = frozenset({"spec.signerName"})
    columns = (
        AGE,
        Column("SignerName", description="Who is to sign."),
        Column("Requestor", description="Who asks."),
        Column("RequestedDuration", description="For how long."),
        Column("Condition", description="How far it is."),
    )

    def default(self, value: Object) -> None:
        """Put in what is always there."""
        value.setdefault("spec", {})
        value.setdefault("status", {})

    def prepare_create(self, value: Object, context: Context) -> None:
        """Say who asks; nobody brings an approval with him."""
        spec, user = value["spec"], context.user
        for key in ("username", "uid", "groups", "extra"):
            spec.pop(key, None)
        told = {
            "username": user.name,
            "uid": user.uid,
            "groups": list(user.groups),
            "extra": {key: list(values) for key, values in user.extra.items()},
        }
        spec.update((key, item) for key, item in told.items() if item)
        value["status"] = {}

    def prepare_update(self, value: Object, old: Object, context: Context) -> None:
        """What is asked for stays; the approval is written by its subresource."""
        value["spec"] = old["spec"]
        if context.subresource != "approval":
            value["status"] = old.get("status", {})
            return
        conditions = value["status"].get("conditions", [])
        _stamp(conditions, old, context.now)
        value["status"] = {**old.get("status", {}), "conditions": conditions}
        if not conditions:
            del value["status"]["conditions"]

    def prepare_status(self, value: Object, old: Object, context: Context) -> None:
        """Approvals stay as they are."""
        conditions = value["status"].get("conditions", [])
        for kind in (_APPROVED, _DENIED):
            before = _of_kind(old, kind)
            places = [n for n, one in enumerate(conditions) if one.get("type") == kind]
            if len(before) == len(places):
                for place, condition in zip(places, before, strict=True):
                    conditions[place] = condition
        _stamp(conditions, old, context.now)

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with a new one, or with an approval."""
        causes = [] if old is not None else _check_spec(value["spec"])
        causes += _check_conditions(value, old)
        if old is not None:
            causes += _check_removals(value, old)
            if value["status"].get("certificate") != old.get("status", {}).get("certificate"):
                text = "updates may not set certificate content"
                causes.append(forbidden("status.certificate", text))
        return causes

    def validate_status(self, value: Object, old: Object) -> list[Cause]:
        """Return what is wrong with what a signer writes."""
        causes = _check_conditions(value, old) + _check_removals(value, old)
        for kind in (_APPROVED, _DENIED):
            now, then = _of_kind(value, kind), _of_kind(old, kind)
            if now != then and len(now) >= len(then):
                verb = "add" if len(now) > len(then) else "modify"
                text = f'updates may not {verb} a condition of type "{kind}"'
                causes.append(forbidden("status.conditions", text))
        now, then = (one.get("status", {}).get("certificate", "") for one in (value, old))
        if now != then:
            problem = _certificate_problem(now)
            if problem:
                causes.append(wrong("status.certificate", "<certificate data>", problem))
            if then:
                text = "updates may not modify existing certificate content"
                causes.append(forbidden("status.certificate", text))
        return causes

    def fields(self, value: Object) -> dict[str, str]:
        """Return what field selectors can ask for."""
        return {"spec.signerName": value["spec"].get("signerName", "")}

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        spec = value["spec"]
        seconds = spec.get("expirationSeconds")
        return [
            spec.get("signerName") or "<none>",
            spec.get("username", ""),
            "<none>" if seconds is None else duration(seconds),
            _progress(value),
        ]


def _progress(value: Object) -> str:
    kinds = {one.get("type") for one in value.get("status", {}).get("conditions", [])}
    found = "Denied" if _DENIED in kinds else "Approved" if _APPROVED in kinds else "Pending"
    if _FAILED in kinds:
        found += ",Failed"
    return f"{found},Issued" if value.get("status", {}).get("certificate") else found


def _of_kind(value: Object, kind: str) -> list[Object]:
    conditions = value.get("status", {}).get("conditions", [])
    return [one for one in conditions if one.get("type") == kind]


def _stamp(conditions: list[Object], old: Object, now: str) -> None:
    for condition in conditions:
        condition.setdefault("lastUpdateTime", now)
        if "lastTransitionTime" in condition:
            continue
        known = (
            one["lastTransitionTime"]
            for one in _of_kind(old, condition.get("type", ""))
            if one.get("status") == condition.get("status") and "lastTransitionTime" in one
        )
        condition["lastTransitionTime"] = next(known, now)


def _check_spec(spec: Object) -> list[Cause]:
    causes: list[Cause] = []
    problem = _request_problem(spec.get("request", ""))
    if problem:
        causes.append(wrong("spec.request", spec.get("request", ""), problem))
    usages = spec.get("usages", [])
    if not usages:
        causes.append(required("spec.usages"))
    for index, usage in enumerate(usages):
        if usage not in _USAGES:
            causes.append(unsupported(f"spec.usages[{index}]", usage, _USAGES))
        if usage in usages[:index]:
            causes.append(duplicate(f"spec.usages[{index}]", usage))
    causes += _check_signer(spec.get("signerName", ""))
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < _SHORTEST:
        text = "may not specify a duration less than 600 seconds (10 minutes)"
        causes.append(wrong("spec.expirationSeconds", seconds, text))
    return causes


def _check_signer(name: str) -> list[Cause]:
    path = "spec.signerName"
    if not name:
        return [required(path)]
    if name == _LEGACY:
        text = "the legacy signerName is not allowed via this API version"
        return [wrong(path, name, text)]
    domain, slash, rest = name.partition("/")
    if not slash or "/" in rest:
        text = "must be a fully qualified domain and path of the form 'example.com/signer-name'"
        return [wrong(path, name, text)]
    problems = subdomain_problems(domain)
    if not problems and "." not in domain:
        problems = ["should be a domain with at least two segments separated by dots"]
    causes = [wrong(path, domain, problem) for problem in problems]
    for part in rest.split("."):
        causes += [
            wrong(path, part, f'validating label "{part}": {problem}')
            for problem in subdomain_problems(part)
        ]
    return causes


def _request_problem(text: str) -> str:
    blocks = _PEM.findall(_decoded(text))
    if not blocks or blocks[0] != b"CERTIFICATE REQUEST":
        return "PEM block type must be CERTIFICATE REQUEST"
    try:
        request = x509.load_pem_x509_csr(_decoded(text))
        return "" if request.is_signature_valid else "the signature is not valid"
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        return str(error) or "it cannot be read"


def _certificate_problem(text: str) -> str:
    if not text:
        return ""
    content = _decoded(text)
    kinds = [kind.decode() for kind in _PEM.findall(content)]
    if not kinds:
        return "must contain at least one CERTIFICATE PEM block"
    for kind in kinds:
        if kind != "CERTIFICATE":
            return f'only CERTIFICATE PEM blocks are allowed, found "{kind}"'
    try:
        x509.load_pem_x509_certificates(content)
    except ValueError as error:
        return str(error)
    return ""


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text)
    except ValueError:
        return b""


def _check_conditions(value: Object, old: Object | None) -> list[Cause]:
    path, seen = "status.conditions", set[str]()
    before = old.get("status", {}).get("conditions", []) if old else []
    conditions = value["status"].get("conditions", [])
    if conditions == before:
        return []
    causes: list[Cause] = []
    for index, condition in enumerate(conditions):
        at, kind, status = f"{path}[{index}]", condition.get("type", ""), condition.get("status")
        only_true = kind in (_APPROVED, _DENIED, _FAILED)
        known = ["True"] if only_true else ["False", "True", "Unknown"]
        if not kind:
            causes.append(required(f"{at}.type"))
        if not status:
            causes.append(required(f"{at}.status"))
        elif status not in known:
            causes.append(unsupported(f"{at}.status", status, known))
        other = {_APPROVED: _DENIED, _DENIED: _APPROVED}.get(kind)
        if other in seen:
            text = "Approved and Denied conditions are mutually exclusive"
            causes.append(wrong(path, kind, text))
        if kind in seen:
            causes.append(duplicate(f"{at}.type", kind))
        seen.add(kind)
    return causes


def _check_removals(value: Object, old: Object) -> list[Cause]:
    return [
        forbidden("status.conditions", f'updates may not remove a condition of type "{kind}"')
        for kind in (_APPROVED, _DENIED, _FAILED)
        if len(_of_kind(value, kind)) < len(_of_kind(old, kind))
    ]
