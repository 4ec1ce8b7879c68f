"""Who the pods of a StatefulSet are: names, labels, volumes and claims by ordinal (pure).

Source: Kubernetes documentation, "StatefulSets", "Pod Identity" and "Stable Storage".
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass
from typing import Any, Final

from controlplane.controllers.history import REVISION_LABEL
from controlplane.controllers.podtemplates import pod_from
from controlplane.engine.resources import STATEFUL_SETS, Object

NAME_LABEL: Final = "statefulset.kubernetes.io/pod-name"
INDEX_LABEL: Final = "apps.kubernetes.io/pod-index"
_NAME: Final = re.compile(r"(.*)-([0-9]+)", re.DOTALL)
_LARGEST: Final = (1 << 31) - 1


@dataclass(frozen=True, slots=True)
class Ordinals:
    """The ordinals that a set shall have.

    Attributes:
        start: the first one.
        count: how many there are.
    """

    start: int
    count: int

    def __contains__(self, ordinal: object) -> bool:
        return isinstance(ordinal, int) and self.start <= ordinal < self.start + self.count

    @property
    def all(self) -> range:
        """All of them, the lowest first."""
        return range(self.start, self.start + self.count)


def ordinals_of(owner: Object) -> Ordinals:
    """Return the ordinals that a set shall have."""
    spec = owner["spec"]
    return Ordinals((spec.get("ordinals") or {}).get("start", 0), spec.get("replicas", 1))


def parent_of(pod: Object) -> str:
    """Return the set that the name of a pod says, "" if it says none."""
    found = _NAME.fullmatch(pod["metadata"]["name"])
    return found[1] if found is not None else ""


def ordinal_of(pod: Object) -> int:
    """Return the ordinal that the name of a pod says, -1 if it says none."""
    found = _NAME.fullmatch(pod["metadata"]["name"])
    ordinal = int(found[2]) if found is not None else -1
    return ordinal if ordinal <= _LARGEST else -1


def is_member(owner: Object, pod: Object) -> bool:
    """Whether a pod is named after a set: ``web-1``, but not ``web-01``."""
    ordinal = ordinal_of(pod)
    return ordinal >= 0 and bool(pod["metadata"]["name"] == pod_name(owner, ordinal))


def revision_of(pod: Object) -> str:
    """Return the name of the revision that a pod was made of."""
    return str((pod["metadata"].get("labels") or {}).get(REVISION_LABEL, ""))


def pod_name(owner: Object, ordinal: int) -> str:
    """Return the name of the pod of an ordinal."""
    return f"{owner['metadata']['name']}-{ordinal}"


def new_pod(owner: Object, template: Object, revision: str, ordinal: int) -> Object:
    """Return the pod of an ordinal.

    Args:
        owner: the set.
        template: of the revision.
        revision: its name.
        ordinal: of the pod.
    """
    pod = pod_from(template, owner, STATEFUL_SETS)
    name = pod_name(owner, ordinal)
    pod["metadata"]["name"] = name
    pod["metadata"]["labels"] |= {
        NAME_LABEL: name, INDEX_LABEL: str(ordinal), REVISION_LABEL: revision,
    }  # fmt: skip
    pod["spec"]["hostname"] = name
    pod["spec"].pop("subdomain", None)
    if owner["spec"].get("serviceName"):
        pod["spec"]["subdomain"] = owner["spec"]["serviceName"]
    volumes = volumes_with_claims(owner, pod["spec"].get("volumes") or [], ordinal)
    if volumes:
        pod["spec"]["volumes"] = volumes
    return pod


def templates_of_claims(owner: Object) -> list[Object]:
    """Return the claim templates of a set."""
    found: list[Object] = owner["spec"].get("volumeClaimTemplates") or []
    return found


def claim_name(owner: Object, template: Object, ordinal: int) -> str:
    """Return the name of the claim made of a template for an ordinal."""
    return f"{template['metadata']['name']}-{pod_name(owner, ordinal)}"


def claims_of(owner: Object, ordinal: int) -> list[Object]:
    """Return the claims that the pod of an ordinal needs, as they are made."""
    made = []
    matched = owner["spec"]["selector"].get("matchLabels") or {}
    for template in templates_of_claims(owner):
        claim = copy.deepcopy(template)
        claim.pop("status", None)
        meta = claim["metadata"]
        meta["name"] = claim_name(owner, template, ordinal)
        meta["namespace"] = owner["metadata"]["namespace"]
        meta["labels"] = {**(meta.get("labels") or {}), **matched}
        made.append(claim)
    return made


def volumes_with_claims(owner: Object, volumes: list[Any], ordinal: int) -> list[Any]:
    """Return volumes of a pod; those named as a claim template are its claims."""
    claims = {
        template["metadata"]["name"]: claim_name(owner, template, ordinal)
        for template in templates_of_claims(owner)
    }
    made = [
        {"name": name, "persistentVolumeClaim": {"claimName": claim}}
        for name, claim in claims.items()
    ]
    return made + [one for one in volumes if one["name"] not in claims]


def identity_fits(owner: Object, pod: Object) -> bool:
    """Whether name and label of a pod are as its ordinal wants."""
    meta = pod["metadata"]
    named = bool((meta.get("labels") or {}).get(NAME_LABEL) == meta["name"])
    return named and is_member(owner, pod)


def storage_fits(owner: Object, pod: Object) -> bool:
    """Whether a pod has the volumes that the claim templates want."""
    ordinal = ordinal_of(pod)
    volumes = {one["name"]: one for one in pod["spec"].get("volumes") or ()}
    return ordinal >= 0 and all(
        ((volumes.get(template["metadata"]["name"]) or {}).get("persistentVolumeClaim") or {}).get(
            "claimName"
        )
        == claim_name(owner, template, ordinal)
        for template in templates_of_claims(owner)
    )


def put_right(owner: Object, pod: Object) -> Object | None:
    """Change a pod to fit its ordinal; None: it fits.

    Args:
        owner: the set.
        pod: changed.
    """
    right = identity_fits(owner, pod), storage_fits(owner, pod)
    ordinal = ordinal_of(pod)
    if not right[0]:
        labels = pod["metadata"].setdefault("labels", {})
        labels |= {NAME_LABEL: pod["metadata"]["name"], INDEX_LABEL: str(ordinal)}
    if not right[1]:
        pod["spec"]["volumes"] = volumes_with_claims(
            owner, pod["spec"].get("volumes") or [], ordinal
        )
    return None if all(right) else pod
