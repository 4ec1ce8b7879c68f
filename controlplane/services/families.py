"""Which families of addresses a service has (pure).

Source: Kubernetes documentation, "IPv4/IPv6 dual-stack"; KEP-563.
"""

from __future__ import annotations

from typing import Final

from controlplane.api.errors import Cause
from controlplane.api.metadata import wrong
from controlplane.api.resource import Object
from controlplane.kinds.strategies.core.addresses import family_of
from controlplane.kinds.strategies.core.service_checks import check_cluster_ips

_OTHER: Final = {"IPv4": "IPv6", "IPv6": "IPv4"}
_POLICY: Final = "spec.ipFamilyPolicy"
_SINGLE: Final = "SingleStack"


def settle_families(spec: Object, before: Object | None, known: list[str]) -> list[Cause]:
    """Put in the families of a service and its policy on them; return what keeps that from being.

    Args:
        spec: of the service; changed.
        before: as it was; None: it is being made.
        known: families that services can have here, the primary one first.
    """
    if spec["type"] == "ExternalName" or (before is not None and _is_settled(spec, before)):
        return []
    selectorless = spec.get("clusterIP") == "None" and not spec.get("selector")
    if not spec.get("ipFamilyPolicy"):
        policy = "RequireDualStack" if selectorless else _SINGLE
        spec["ipFamilyPolicy"] = (before or {}).get("ipFamilyPolicy") or policy
    causes = check_cluster_ips(spec, before or {})
    if causes:
        return causes
    causes = _shrink(spec, before) if before is not None else []
    causes += _check_single(spec)
    causes += _add_families_of_addresses(spec, known)
    if causes:
        return causes
    if not selectorless:
        causes = _check_known(spec, known)
        if causes:
            return causes
    families = spec.setdefault("ipFamilies", []) or [known[0]]
    if spec["ipFamilyPolicy"] != _SINGLE and len(families) == 1:
        other = _OTHER[families[0]]
        if selectorless or other in known:
            families = [*families, other]
    spec["ipFamilies"] = families
    return []


def _is_settled(spec: Object, before: Object) -> bool:
    prefer = "PreferDualStack"
    return (
        spec["type"] == before["type"]
        and spec.get("ipFamilyPolicy") == prefer
        and before.get("ipFamilyPolicy", prefer) == prefer
        and spec.get("clusterIPs") == before.get("clusterIPs")
        and spec.get("ipFamilies") == before.get("ipFamilies")
    )


def _shrink(spec: Object, before: Object) -> list[Cause]:
    """Release the secondary family, or say that the policy does not."""
    causes: list[Cause] = []
    for key, what in (("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")):
        now, then = spec.get(key, []), before.get(key, [])
        if spec["ipFamilyPolicy"] == _SINGLE:
            if now == then and len(now) > 1:
                spec[key] = now[:1]
        elif now and len(now) < len(then):
            text = f"must be 'SingleStack' to release the secondary {what}"
            causes.append(wrong(_POLICY, spec["ipFamilyPolicy"], text))
    return causes


def _check_single(spec: Object) -> list[Cause]:
    if spec["ipFamilyPolicy"] != _SINGLE:
        return []
    return [
        wrong(
            _POLICY,
            _SINGLE,
            f"must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified",
        )
        for key, what in (("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families"))
        if len(spec.get(key, [])) == 2
    ]


def _add_families_of_addresses(spec: Object, known: list[str]) -> list[Cause]:
    families = list(spec.get("ipFamilies", []))
    ips = spec.get("clusterIPs", [])
    causes: list[Cause] = []
    for index, address in enumerate(ips):
        if address == "None":
            break
        if index >= len(families):
            family = family_of(address)
            if family in known:
                families.append(family)
            else:
                text = f"{family} is not configured on this cluster"
                causes.append(wrong(f"spec.clusterIPs[{index}]", ips, text))
    if families:
        spec["ipFamilies"] = families
    return causes


def _check_known(spec: Object, known: list[str]) -> list[Cause]:
    causes: list[Cause] = []
    if spec["ipFamilyPolicy"] == "RequireDualStack" and len(known) < 2:
        text = "this cluster is not configured for dual-stack services"
        causes.append(wrong(_POLICY, "RequireDualStack", text))
    return causes + [
        wrong(f"spec.ipFamilies[{index}]", family, "not configured on this cluster")
        for index, family in enumerate(spec.get("ipFamilies", []))
        if family not in known
    ]
