"""Short ways to write pods and what is observed of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubeletpy.api.container import Container, HTTPGetAction, Probe
from kubeletpy.api.meta import ObjectMeta
from kubeletpy.api.pod import Pod, PodSpec
from kubeletpy.pods.backoff import CrashLoop
from kubeletpy.pods.plan import Desired
from kubeletpy.pods.state import (
    ContainerPhase,
    ContainerRecord,
    ImagePhase,
    ImageState,
    Observed,
    SandboxRecord,
    frozen,
    newest_first,
)

NOW = 1_000_000.0
PROBE = Probe(http_get=HTTPGetAction(port=80), period_seconds=1, termination_grace_period_seconds=3)
PRESENT = ImageState(ImagePhase.PRESENT, ref="sha256:1")


def container(name: str, **fields: Any) -> Container:
    return Container(name=name, image=f"{name}:1", **fields)


def pod(*containers: Container | str, init: tuple[Container | str, ...] = (), **spec: Any) -> Pod:
    def whole(one: Container | str) -> Container:
        return container(one) if isinstance(one, str) else one

    spec.setdefault("restart_policy", "Always")
    return Pod(
        api_version="v1",
        kind="Pod",
        metadata=ObjectMeta(name="web", namespace="default", uid="u1"),
        spec=PodSpec(
            containers=[whole(one) for one in containers],
            init_containers=[whole(one) for one in init],
            **spec,
        ),
    )


def desired(
    *containers: Container | str, init: tuple[Container | str, ...] = (), **spec: Any
) -> Desired:
    made = pod(*containers, init=init, **spec)
    names = [one.name for one in (*made.spec.containers, *made.spec.init_containers)]
    return Desired(made, frozen(dict.fromkeys(names, "h1")), CrashLoop())


def box(attempt: int = 0, ready: bool = True, **fields: Any) -> SandboxRecord:
    fields.setdefault("ips", ("10.0.0.1",) if ready else ())
    return SandboxRecord(id=f"s{attempt}", attempt=attempt, ready=ready, **fields)


def record(
    name: str, phase: str, attempt: int = 0, sandbox: int = 0, **fields: Any
) -> ContainerRecord:
    """An ended container ended just now; override ``finished_at`` and the rest by name."""
    kind = ContainerPhase(phase)
    fields.setdefault("started_at", 0.0 if phase == "created" else NOW - 5)
    if kind is ContainerPhase.EXITED:
        fields.setdefault("finished_at", NOW)
    fields.setdefault("spec_hash", "h1")
    return ContainerRecord(
        id=f"{name}-{attempt}", sandbox_id=f"s{sandbox}", name=name, attempt=attempt, phase=kind,
        created_at=NOW - 10 + attempt, **fields,
    )  # fmt: skip


def observed(
    *things: SandboxRecord | ContainerRecord,
    images: Mapping[str, ImageState] | None = None,
    **fields: Any,
) -> Observed:
    """What is observed; unless ``images`` says otherwise all images are present."""
    boxes, records = newest_first(
        [one for one in things if isinstance(one, SandboxRecord)],
        [one for one in things if isinstance(one, ContainerRecord)],
    )
    known = frozen(dict.fromkeys("abcdefgh", PRESENT) if images is None else images)
    fields = {
        key: frozen(value) if isinstance(value, dict) else value for key, value in fields.items()
    }
    return Observed(sandboxes=boxes, containers=records, images=known, **fields)
