"""apps/v1 StatefulSet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from controlplane.api.errors import Cause
from controlplane.api.metadata import forbidden, wrong
from controlplane.api.resource import Column, Object
from controlplane.kinds import cells
from controlplane.kinds.checks import (
    amount,
    check_dns_label,
    check_int_or_percent,
    check_not_negative,
    check_one_of,
    check_share,
    is_same,
)
from controlplane.kinds.strategies.apps.counts import check_counts
from controlplane.kinds.strategies.base import WithStatus
from controlplane.kinds.strategies.storage.claims import check_claim_spec, default_claim
from controlplane.kinds.strategies.templates import (
    check_lasting_template,
    check_required_selector,
    check_selected,
    default_template,
    warn_of_template,
)

_MUTABLE: Final = ("replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
                   "persistentVolumeClaimRetentionPolicy", "minReadySeconds")  # fmt: skip
_RETENTION: Final = ("Delete", "Retain")
_WORDS: Final = ("OrderedReady", "Parallel")


class StatefulSet(WithStatus):
    """StatefulSets."""

    names = "label"
    initial: ClassVar[Mapping[str, Any]] = {"replicas": 0, "availableReplicas": 0}
    columns = (
        Column("Ready", description="How many of the wanted pods are ready."),
        *cells.CONTAINERS,
    )

    def default(self, value: Object) -> None:
        """Put in policies, replicas, and the defaults of the template and of claims."""
        super().default(value)
        spec = value["spec"]
        spec["podManagementPolicy"] = spec.get("podManagementPolicy") or "OrderedReady"
        strategy = spec.setdefault("updateStrategy", {})
        if not strategy.get("type"):
            strategy["type"] = "RollingUpdate"
            strategy.setdefault("rollingUpdate", {})
        if strategy["type"] == "RollingUpdate" and "rollingUpdate" in strategy:
            strategy["rollingUpdate"].setdefault("partition", 0)
        retention = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
        for key in ("whenDeleted", "whenScaled"):
            retention[key] = retention.get(key) or "Retain"
        spec.setdefault("replicas", 1)
        spec.setdefault("revisionHistoryLimit", 10)
        default_template(spec)
        for claim in spec.get("volumeClaimTemplates", ()):
            claim.setdefault("apiVersion", "v1")
            claim.setdefault("kind", "PersistentVolumeClaim")
            claim.setdefault("metadata", {})
            default_claim(claim)

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with the spec, or what of it may not be changed."""
        spec = value["spec"]
        causes = _check_spec(spec)
        if old is None:
            causes += _check_claims(spec)
            if spec.get("serviceName"):
                causes += check_dns_label(spec["serviceName"], "spec.serviceName")
            return causes
        before = old["spec"]
        if any(
            not is_same(spec.get(key), before.get(key))
            for key in spec.keys() | before.keys()
            if key not in _MUTABLE
        ):
            text = f"only {', '.join(_MUTABLE)} of a statefulset's spec may be changed"
            causes.append(forbidden("spec", text))
        return causes

    def validate_status(self, value: Object, old: Object) -> list[Cause]:
        """Return what is wrong with the counts."""
        bounded = ("readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")
        numbers = ("replicas", *bounded, "observedGeneration", "collisionCount")
        return check_counts(value, old, numbers=numbers, bounded=bounded)

    def warnings(self, value: Object) -> list[str]:
        """Return what a user should hear about the template and about history."""
        spec = value["spec"]
        found = warn_of_template(spec["template"], "spec.template")
        if spec.get("revisionHistoryLimit", 0) < 0:
            found.append(
                "spec.revisionHistoryLimit: a negative value retains all historical revisions; a "
                "value >= 0 is recommended"
            )
        return found

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        spec, status = value["spec"], value.get("status", {})
        return [
            f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
            *cells.containers(spec["template"].get("spec")),
        ]


def _check_spec(spec: Object) -> list[Cause]:
    policy = spec["podManagementPolicy"]
    causes: list[Cause] = []
    if policy not in _WORDS:
        text = f"must be {' or '.join(_WORDS)}"
        causes.append(wrong("spec.podManagementPolicy", policy, text))
    causes += _check_strategy(spec["updateStrategy"], "spec.updateStrategy")
    retention, path = spec["persistentVolumeClaimRetentionPolicy"], "spec."
    for key in ("whenDeleted", "whenScaled"):
        path = f"spec.persistentVolumeClaimRetentionPolicy.{key}"
        causes += check_one_of(retention[key], path, _RETENTION)
    causes += check_not_negative(spec, "spec", "replicas", "minReadySeconds")
    causes += check_not_negative(spec.get("ordinals", {}), "spec.ordinals", "start")
    causes += check_required_selector(spec, "spec", "statefulset")
    causes += check_selected(spec, "spec")
    return causes + check_lasting_template(_shown(spec), "spec.template", "StatefulSet")


def _shown(spec: Object) -> Object:
    """Return the template as pods will have it: names by the set, volumes of the claims."""
    template = spec["template"]
    pod = {k: v for k, v in template["spec"].items() if k not in ("hostname", "subdomain")}
    claims = {claim["metadata"].get("name", "") for claim in spec.get("volumeClaimTemplates", ())}
    if claims:
        volumes = [one for one in pod.get("volumes", ()) if one.get("name") not in claims]
        made = [
            {"name": name, "persistentVolumeClaim": {"claimName": name}} for name in sorted(claims)
        ]
        pod["volumes"] = [*made, *volumes]
    return {**template, "spec": pod}


def _check_claims(spec: Object) -> list[Cause]:
    return [
        cause
        for index, claim in enumerate(spec.get("volumeClaimTemplates", ()))
        for cause in check_claim_spec(claim["spec"], f"spec.volumeClaimTemplates[{index}].spec")
    ]


def _check_strategy(strategy: Object, path: str) -> list[Cause]:
    kind, rolling = strategy["type"], strategy.get("rollingUpdate")
    if kind == "OnDelete":
        text = "only allowed for updateStrategy 'RollingUpdate'"
        return [] if rolling is None else [wrong(f"{path}.rollingUpdate", rolling, text)]
    if kind != "RollingUpdate":
        return [wrong(path, strategy, "must be 'RollingUpdate' or 'OnDelete'")]
    here = f"{path}.rollingUpdate"
    causes = check_not_negative(rolling or {}, here, "partition")
    unavailable = (rolling or {}).get("maxUnavailable")
    if unavailable is not None:
        here = f"{here}.maxUnavailable"
        causes += check_int_or_percent(unavailable, here)
        causes += [] if amount(unavailable) else [wrong(here, unavailable, "cannot be 0")]
        causes += check_share(unavailable, here)
    return causes
