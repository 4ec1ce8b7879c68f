"""Which claims a pod uses (pure).

Source: Kubernetes documentation, "Ephemeral Volumes", "PersistentVolumeClaim naming".
"""

from __future__ import annotations

from typing import Final

from controlplane.engine.resources import Object

INDEX: Final = "volumes/claims"
"""Of pods, by the keys of the claims that they use."""


def claim_names(pod: Object) -> list[str]:
    """Return the names of the claims that a pod uses, those made for it included."""
    names: list[str] = []
    for volume in pod["spec"].get("volumes") or ():
        if "persistentVolumeClaim" in volume:
            names.append(volume["persistentVolumeClaim"].get("claimName", ""))
        elif "ephemeral" in volume:
            names.append(ephemeral_name(pod, volume))
    return names


def ephemeral_name(pod: Object, volume: Object) -> str:
    """Return the name of the claim that is made for a volume of a pod."""
    return f"{pod['metadata']['name']}-{volume['name']}"


def claim_keys(pod: Object) -> list[str]:
    """Return the keys of the claims that a pod uses: the function of `INDEX`."""
    namespace = pod["metadata"]["namespace"]
    return [f"{namespace}/{name}" for name in claim_names(pod)]


def has_ended(pod: Object) -> bool:
    """Whether nothing of a pod runs any more, nor will again."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
