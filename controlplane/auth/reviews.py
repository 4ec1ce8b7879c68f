"""Reviews: who somebody is, and what he may do, asked by others.

Source: authentication.k8s.io/v1, authorization.k8s.io/v1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from controlplane.api.errors import bad_request, invalid
from controlplane.api.identity import MASTERS, User
from controlplane.api.metadata import now, wrong
from controlplane.api.resource import Object
from controlplane.auth.authentication.authenticator import Authenticator, TokenError
from controlplane.auth.authorization.attributes import Attributes, Authorizer, demanded
from controlplane.auth.authorization.node import node_of
from controlplane.auth.authorization.rbac import Rbac
from controlplane.auth.authorization.rules import Rule
from controlplane.auth.tokens.request import clean
from controlplane.plane import Call, Handler
from controlplane.server.answers import respond
from controlplane.server.body import read_body

AUTHENTICATION: Final = "authentication.k8s.io"
AUTHORIZATION: Final = "authorization.k8s.io"


@dataclass(frozen=True, slots=True)
class Reviews:
    """Answers reviews.

    Attributes:
        authenticator: of tokens.
        authorizer: of actions.
        rbac: of the rules of a user.
    """

    authenticator: Authenticator
    authorizer: Authorizer
    rbac: Rbac

    def handlers(self) -> dict[tuple[str, str, str], Handler]:
        """Return what to hook in."""
        return {
            (AUTHENTICATION, "tokenreviews", ""): self.token,
            (AUTHENTICATION, "selfsubjectreviews", ""): self.self_subject,
            (AUTHORIZATION, "subjectaccessreviews", ""): self.access,
            (AUTHORIZATION, "localsubjectaccessreviews", ""): self.local_access,
            (AUTHORIZATION, "selfsubjectaccessreviews", ""): self.self_access,
            (AUTHORIZATION, "selfsubjectrulesreviews", ""): self.self_rules,
        }

    async def token(self, call: Call) -> web.Response:
        """Say whom a token stands for."""
        value = await _read(call)
        spec = value.get("spec", {})
        if not spec.get("token"):
            raise bad_request("token is required for TokenReview in authentication")
        status: Object = {"user": {}}
        try:
            found = self.authenticator.by_token(spec["token"], spec.get("audiences") or ())
            if found is not None:
                status = {"authenticated": True, "user": user_info(found.user)}
                if found.audiences:
                    status["audiences"] = list(found.audiences)
        except TokenError as error:
            status["error"] = str(error)
        return _answer(call, value, status)

    async def self_subject(self, call: Call) -> web.Response:
        """Say who asks."""
        value = await _read(call)
        value.setdefault("metadata", {})["creationTimestamp"] = now()
        return _answer(call, value, {"userInfo": user_info(call.context.user)})

    async def access(self, call: Call) -> web.Response:
        """Say whether somebody may do something."""
        value = await _read(call)
        return self._decide(call, value, _user_of(call, value))

    async def local_access(self, call: Call) -> web.Response:
        """Likewise, in the namespace of the path."""
        value = await _read(call)
        resource = value.get("spec", {}).get("resourceAttributes", {})
        if resource.get("namespace", "") != call.context.namespace:
            raise bad_request(
                f"spec.resourceAttributes.namespace must match namespace: {call.context.namespace}"
            )
        return self._decide(call, value, _user_of(call, value))

    async def self_access(self, call: Call) -> web.Response:
        """Say whether who asks may do something."""
        value = await _read(call)
        return self._decide(call, value, call.context.user)

    async def self_rules(self, call: Call) -> web.Response:
        """Say what who asks may do in a namespace, as far as rules tell."""
        value = await _read(call)
        user, namespace = call.context.user, value.get("spec", {}).get("namespace", "")
        if not namespace:
            raise bad_request("no namespace on request")
        rules = list(self.rbac.all_rules(user, namespace))
        if MASTERS in user.groups:
            every = frozenset("*")
            rules = [Rule(every, every, every), Rule(every, paths=("*",)), *rules]
        status: Object = rule_lists(rules)
        if node_of(user) is not None:
            text = "node authorizer does not support user rule resolution"
            status |= {"incomplete": True, "evaluationError": text}
        return _answer(call, value, status)

    def _decide(self, call: Call, value: Object, user: User) -> web.Response:
        allowed, reason = self.authorizer.authorize(_wanted(call, value, user))
        status: Object = {"allowed": allowed}
        if reason:
            status["reason"] = reason
        return _answer(call, value, status)


def user_info(user: User) -> Object:
    """Return a user as authentication.k8s.io/v1 UserInfo (pure)."""
    info: Object = {"username": user.name}
    if user.uid:
        info["uid"] = user.uid
    if user.groups:
        info["groups"] = list(user.groups)
    if user.extra:
        info["extra"] = {key: list(values) for key, values in user.extra.items()}
    return info


def rule_lists(rules: list[Rule]) -> Object:
    """Return rules as in the status of a SelfSubjectRulesReview (pure)."""
    resources: list[Object] = []
    paths: list[Object] = []
    for rule in rules:
        verbs = sorted(rule.verbs)
        if rule.paths:
            paths.append({"verbs": verbs, "nonResourceURLs": list(rule.paths)})
        if rule.resources:
            entry: Object = {"verbs": verbs, "apiGroups": sorted(rule.groups),
                             "resources": sorted(rule.resources)}  # fmt: skip
            if rule.names:
                entry["resourceNames"] = sorted(rule.names)
            resources.append(entry)
    return {"resourceRules": resources, "nonResourceRules": paths, "incomplete": False}


async def _read(call: Call) -> Object:
    body = await read_body(call.request, call.plane.registry.types.kinds)
    return clean(call.plane, call.resource.type_name, body)


def _answer(call: Call, value: Object, status: Object) -> web.Response:
    resource = call.resource
    head = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": {}}
    return respond({**head, **value, "status": status}, status=201)


def _user_of(call: Call, value: Object) -> User:
    spec = value.get("spec", {})
    if not spec.get("user") and not spec.get("groups"):
        cause = wrong("spec.user", "", "at least one of user or group must be specified")
        raise invalid(call.resource.kind, AUTHORIZATION, "", [cause])
    extra = {key.lower(): tuple(values or ()) for key, values in spec.get("extra", {}).items()}
    return User(spec.get("user", ""), spec.get("uid", ""), tuple(spec.get("groups") or ()), extra)


def _wanted(call: Call, value: Object, user: User) -> Attributes:
    spec = value.get("spec", {})
    resource, path = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if (resource is None) == (path is None):
        text = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        if resource is not None:
            text = "cannot be specified in combination with resourceAttributes"
        field = "spec.nonResourceAttributes" if resource is not None else "spec.resourceAttributes"
        raise invalid(call.resource.kind, AUTHORIZATION, "", [wrong(field, resource, text)])
    if resource is None:
        return Attributes(user, path.get("verb", ""), path=path.get("path", ""))
    if not resource.get("resource"):
        # Without a resource nothing but a rule for all of them applies.
        resource = {**resource, "resource": "*"}
    return Attributes(
        user,
        resource.get("verb", ""),
        resource.get("group", ""),
        resource.get("version", ""),
        resource["resource"],
        resource.get("subresource", ""),
        resource.get("namespace", ""),
        resource.get("name", ""),
        fields=_fields(resource.get("fieldSelector") or {}),
    )


def _fields(selector: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    if selector.get("rawSelector"):
        return demanded(selector["rawSelector"])
    return tuple(
        (one.get("key", ""), one["values"][0])
        for one in selector.get("requirements") or ()
        if one.get("operator") == "In" and len(one.get("values") or ()) == 1
    )
