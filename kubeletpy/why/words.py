"""What a step of a pod does, in words; pure."""

from __future__ import annotations

from kubeletpy.pods.plan import Actions


def words_of(actions: Actions) -> str:
    """Return what is being done when ``actions`` are carried out."""
    if actions.kill_pod:
        return f"ending all that runs of the pod: {actions.kill_pod}"
    if actions.create_sandbox is not None:
        return "making the sandbox: cgroup, volumes, network"
    if actions.reset:
        return "removing all containers, so that they start anew"
    if actions.start:
        names = ", ".join(start.name for start in actions.start)
        return f"starting container{'s' if len(actions.start) > 1 else ''} {names}"
    if actions.resize is not None:
        return "changing the limits of running containers"
    return "removing containers that nobody needs any more"
