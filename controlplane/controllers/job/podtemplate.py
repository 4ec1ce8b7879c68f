"""The pods that a Job makes (pure)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final

from controlplane.controllers.podtemplates import ALPHABET, pod_from
from controlplane.engine.resources import JOBS, Object

from .facts import (
    FAILURES,
    FINALIZER,
    IGNORED_FAILURES,
    INDEX,
    count_in,
    is_indexed,
    is_per_index,
)
from .policies import meaning_of

VARIABLE: Final = "JOB_COMPLETION_INDEX"
_LONGEST_PREFIX: Final = 58
"""Five more characters are added to a generated name, and it is 63 at most."""


def pod_of(job: Object, index: int | None, before: Object | None = None) -> Object:
    """Return a pod of a Job.

    Args:
        job: that makes it.
        index: which completion it is to be; None: they have no numbers.
        before: pod of the same index that failed; the new one counts on from it.
    """
    pod = pod_from(job["spec"]["template"], job, JOBS)
    meta, spec = pod["metadata"], pod["spec"]
    if FINALIZER not in meta.setdefault("finalizers", []):
        meta["finalizers"].append(FINALIZER)
    if is_indexed(job):
        for key in ("initContainers", "containers"):
            if spec.get(key):
                spec[key] = [_with_variable(container) for container in spec[key]]
    if index is not None:
        name = job["metadata"]["name"]
        annotations = meta.setdefault("annotations", {})
        annotations[INDEX] = meta["labels"][INDEX] = str(index)
        spec["hostname"] = f"{name}-{index}"
        meta["generateName"] = prefix_of(name, index)
        if is_per_index(job):
            annotations |= _failures_after(job, before)
    return pod


def named(
    job: Object, indexes: Sequence[int | None], is_taken: Callable[[str], bool]
) -> list[str]:  # fmt: skip
    """Return names of new pods, one for each index.

    They look as if the server had made them up, but they follow from the Job and from which pods
    there are: a pod that was asked for right before this process, or one before it, was killed
    has the name that is asked for again, and is not made twice.

    Args:
        job: that makes them.
        indexes: of the pods; None where they have none.
        is_taken: whether there is a pod of a name.
    """
    meta, names = job["metadata"], dict[str, None]()
    numbers = dict.fromkeys(indexes, 0)
    for index in indexes:
        prefix = f"{meta['name']}-" if index is None else prefix_of(meta["name"], index)
        while True:
            name = prefix[:_LONGEST_PREFIX] + _suffix(f"{meta['uid']}/{index}/{numbers[index]}")
            numbers[index] += 1
            if name not in names and not is_taken(name):
                break
        names[name] = None
    return list(names)


def _suffix(text: str) -> str:
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
    return "".join(ALPHABET[number // len(ALPHABET) ** place % len(ALPHABET)] for place in range(5))


def prefix_of(name: str, index: int) -> str:
    """Return what the name of a pod begins with: the index is never cut off."""
    suffix = f"-{index}-"
    return name[: _LONGEST_PREFIX - len(suffix)] + suffix


def _with_variable(container: dict[str, Any]) -> dict[str, Any]:
    variables = container.get("env") or []
    if any(one["name"] == VARIABLE for one in variables):
        return container
    path = {"fieldPath": f"metadata.labels['{INDEX}']"}
    return {**container, "env": [*variables, {"name": VARIABLE, "valueFrom": {"fieldRef": path}}]}


def _failures_after(job: Object, before: Object | None) -> dict[str, str]:
    failures = ignored = 0
    if before is not None:
        counts = meaning_of(job, before).counts
        failures = count_in(before, FAILURES) + counts
        ignored = count_in(before, IGNORED_FAILURES) + (not counts)
    return {FAILURES: str(failures), **({IGNORED_FAILURES: str(ignored)} if ignored else {})}
