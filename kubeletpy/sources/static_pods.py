"""Bytes of a file, or a part of a document -> static pod (pure), as the Go kubelet makes them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from kubeletpy.api.codec import DecodeError, decode, encode_sorted
from kubeletpy.api.defaults import set_defaults
from kubeletpy.api.fields import INVALID, FieldError
from kubeletpy.api.pod import Pod
from kubeletpy.api.scheduling import Toleration
from kubeletpy.api.status import PodStatus
from kubeletpy.api.support import unsupported, without_effect
from kubeletpy.api.validation import validate
from kubeletpy_common.documents import DocumentError, parse

from .updates import CONFIG_HASH, CONFIG_SEEN, CONFIG_SOURCE, FILE_SOURCE

_UID_LENGTH = 32


@dataclass(frozen=True, slots=True)
class StaticPod:
    """A pod that a file describes.

    Attributes:
        pod: ready to run: named, defaulted, valid, all its fields honoured.
        hints: paths of fields without effect on a static pod.
    """

    pod: Pod
    hints: tuple[str, ...] = ()


class ManifestError(ValueError):
    """A file that holds no pod that this kubelet can run.

    Attributes:
        fields: each bad field; empty if the file is no document at all.
    """

    def __init__(self, reason: str, fields: tuple[FieldError, ...] = ()) -> None:
        super().__init__(reason)
        self.fields = fields


def static_pod(data: bytes, *, file: str, node_name: str, seen: datetime) -> StaticPod:
    """Make the pod that ``data`` describes.

    Its uid is a hash of content, file and node, so a changed file is another pod; its name ends
    with the node's; the annotations ``kubernetes.io/config.*`` tell hash, source and when it was
    seen.

    Raises:
        ManifestError: with the path and reason of every bad field.
    """
    try:
        document = parse(data)
    except DocumentError as error:
        raise ManifestError(str(error)) from None
    return made_pod(document, file=file, node_name=node_name, seen=seen)


def made_pod(
    document: object, *, file: str, node_name: str, seen: datetime, source: str = FILE_SOURCE
) -> StaticPod:
    """Make the pod that a parsed document describes; see `static_pod`.

    Args:
        file: the file, or the URL.
        source: which of them it is, `FILE_SOURCE` or `HTTP_SOURCE`.

    Raises:
        ManifestError: with the path and reason of every bad field.
    """
    try:
        pod = decode(document, Pod)
    except DecodeError as error:
        field = FieldError(error.path, INVALID, "", error.reason)
        raise ManifestError(str(error), (field,)) from None
    try:
        content_hash = _hash(pod, f"{source}:{file}", node_name)
    except UnicodeEncodeError:
        raise ManifestError("a text in it has a lone surrogate, which is no Unicode") from None
    _name(pod, content_hash, node_name, seen)
    pod.metadata.annotations[CONFIG_SOURCE] = source
    set_defaults(pod)
    errors = tuple(validate(pod)) or tuple(unsupported(pod))
    if errors:
        raise ManifestError("; ".join(str(error) for error in errors), errors)
    hints = tuple(without_effect(pod))
    if source == FILE_SOURCE:
        # It stays on its node whatever happens to the node; as in Go, not so a pod of a URL.
        pod.spec.tolerations.append(Toleration(operator="Exists", effect="NoExecute"))
    return StaticPod(pod, hints)


def _hash(pod: Pod, origin: str, node_name: str) -> str:
    digest = hashlib.sha256(encode_sorted(pod))
    digest.update(f"\0host:{node_name}\0{origin}".encode())
    return digest.hexdigest()[:_UID_LENGTH]


def _name(pod: Pod, content_hash: str, node_name: str, seen: datetime) -> None:
    meta = pod.metadata
    meta.uid = meta.uid or content_hash
    if meta.name:
        meta.name = f"{meta.name}-{node_name.lower()}"
    meta.namespace = meta.namespace or "default"
    # What only a cluster can say is not taken from a file.
    meta.deletion_timestamp = None
    meta.deletion_grace_period_seconds = None
    meta.annotations[CONFIG_HASH] = content_hash
    meta.annotations[CONFIG_SEEN] = seen.isoformat().replace("+00:00", "Z")
    pod.spec.node_name = node_name
    pod.status = PodStatus(phase="Pending")
