"""Nobody gives others, or themselves, by roles and bindings what they may not do.

Source: Kubernetes documentation, "Using RBAC Authorization", "Privilege escalation prevention and
bootstrapping".
"""

from __future__ import annotations

from controlplane.admission.refusals import forbidden
from controlplane.api.errors import ApiError
from controlplane.api.identity import MASTERS
from controlplane.api.resource import Context, Object, Resource
from controlplane.auth.authorization.attributes import Attributes, Authorizer
from controlplane.auth.authorization.rbac import GROUP, Rbac
from controlplane.auth.authorization.rules import Rule, describe, read_rule, uncovered

_EVERYTHING = (
    Rule(frozenset("*"), frozenset("*"), frozenset("*")),
    Rule(frozenset("*"), paths=("*",)),
)
_ROLES = ("roles", "clusterroles")
_BINDINGS = ("rolebindings", "clusterrolebindings")
# What garbage collection changes of an object says nothing about rights.
_COLLECTED = ("ownerReferences", "finalizers", "managedFields", "resourceVersion", "generation")


class Escalation:
    """Checks writes of roles and bindings.

    Args:
        rbac: rules of roles and users.
        authorizer: of the verbs ``escalate`` and ``bind``.
    """

    def __init__(self, rbac: Rbac, authorizer: Authorizer) -> None:
        self._rbac = rbac
        self._authorizer = authorizer

    async def admit(
        self, resource: Resource, value: Object, old: Object | None, context: Context
    ) -> None:
        """Refuse what the user may not give.

        Raises:
            ApiError: it is refused.
        """
        if resource.group != GROUP or MASTERS in context.user.groups:
            return
        if old is not None and _only_collected(value, old):
            return
        namespace = value["metadata"].get("namespace", "") if resource.namespaced else ""
        if resource.plural in _ROLES:
            self._check_role(resource, value, old, namespace, context)
        elif resource.plural in _BINDINGS:
            self._check_binding(resource, value, namespace, context)

    def _check_role(
        self, resource: Resource, value: Object, old: Object | None, namespace: str,
        context: Context,
    ) -> None:  # fmt: skip
        if self._may(context, "escalate", resource.plural, context.name, namespace):
            return
        rules = [read_rule(rule) for rule in value.get("rules") or ()]
        self._check_covered(resource, value, rules, namespace, context)
        if _aggregates(value) or (old is not None and _aggregates(old)):
            owned = self._rbac.all_rules(context.user, "")
            if uncovered(owned, _EVERYTHING):
                why = "must have cluster-admin privileges to use the aggregationRule"
                raise forbidden(resource, value["metadata"], why)

    def _check_binding(
        self, resource: Resource, value: Object, namespace: str, context: Context
    ) -> None:
        reference = value.get("roleRef") or {}
        plural = "clusterroles" if reference.get("kind") == "ClusterRole" else "roles"
        if self._may(context, "bind", plural, reference.get("name", ""), namespace):
            return
        rules = self._rbac.role(reference, namespace)
        self._check_covered(resource, value, list(rules), namespace, context)

    def _check_covered(
        self, resource: Resource, value: Object, rules: list[Rule], namespace: str, context: Context
    ) -> None:
        user = context.user
        missing = uncovered(self._rbac.all_rules(user, namespace), rules)
        if missing:
            groups = " ".join(f'"{group}"' for group in user.groups)
            why = (
                f'user "{user.name}" (groups=[{groups}]) is attempting to grant RBAC permissions '
                "not currently held:\n" + "\n".join(describe(missing))
            )
            raise forbidden(resource, value["metadata"], why)

    def _may(self, context: Context, verb: str, plural: str, name: str, namespace: str) -> bool:
        wanted = Attributes(context.user, verb, GROUP, "*", plural, namespace=namespace, name=name)
        try:
            return self._authorizer.authorize(wanted)[0]
        except ApiError:
            return False


def _aggregates(value: Object) -> bool:
    return bool((value.get("aggregationRule") or {}).get("clusterRoleSelectors"))


def _only_collected(value: Object, old: Object) -> bool:
    def rest(one: Object) -> Object:
        meta = {key: item for key, item in one["metadata"].items() if key not in _COLLECTED}
        return {**one, "metadata": meta}

    return rest(value) == rest(old)
