"""Which pods may use an image that is here already (KEP-2535).

An image pulled with the credentials of one pod shall not be usable by another that has none. So
the kubelet writes down what it pulls, and with whose credentials, below
``<root-dir>/image_manager``, in the Go kubelet's format::

    pulling/sha256-<hash of the name>   an image is being pulled
    pulled/sha256-<hash of the id>      an image was pulled, and with what, by its name

https://kubernetes.io/docs/concepts/containers/images/#ensureimagepullcredentialverification
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import threading
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kubeletpy_common import logs
from kubeletpy_common.atomic import write_atomic
from kubeletpy_proto import cri_pb2

from .keyring import Credential
from .names import without_tag

_log = logging.getLogger(__name__)
NEVER, PRELOADED, LISTED, ALWAYS = (
    "NeverVerify",
    "NeverVerifyPreloadedImages",
    "NeverVerifyAllowlistedImages",
    "AlwaysVerify",
)
MOST_SECRETS = 100
"""Secrets that are written down for one image because they are found to be as good."""
_API = "kubelet.config.k8s.io/v1beta1"


class PullRecords:
    """What was pulled, and who may use it.

    Args:
        root_dir: of the kubelet.
        policy: which images are verified (``imagePullCredentialsVerificationPolicy``).
        allowed: names of images, or ``prefix/*``, that are never verified, with LISTED.
    """

    def __init__(
        self, root_dir: Path, policy: str = PRELOADED, allowed: Iterable[str] = ()
    ) -> None:
        self._pulling = root_dir / "image_manager" / "pulling"
        self._pulled = root_dir / "image_manager" / "pulled"
        self._policy = policy
        self._allowed = tuple(allowed)
        self._under_way: dict[str, int] = {}
        # What waits for the disk runs in threads.
        self._lock = threading.Lock()

    def begin(self, image: str) -> None:
        """Write down that an image is being pulled.

        Raises:
            OSError: it cannot be written.
        """
        self._pulling.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = {"kind": "ImagePullIntent", "apiVersion": _API, "image": image}
        write_atomic(self._pulling / _name(image), json.dumps(content), sync=True)
        with self._lock:
            self._under_way[image] = self._under_way.get(image, 0) + 1

    def failed(self, image: str) -> None:
        """An image that was being pulled did not come."""
        self._end(image)

    def succeeded(self, image: str, reference: str, credential: Credential | None) -> None:
        """An image was pulled, with ``credential`` or without any."""
        try:
            self._write(image, reference, _entry(credential))
        except OSError as error:
            # What was begun stays written: so the image still counts as pulled by a kubelet.
            logs.event(
                _log, logging.ERROR, "pulled image not written down",
                image=image, reason=str(error),
            )  # fmt: skip
            return
        self._end(image)

    def _end(self, image: str) -> None:
        with self._lock:
            count = self._under_way.get(image, 0) - 1
            if count > 0:
                self._under_way[image] = count
                return
            self._under_way.pop(image, None)
        with contextlib.suppress(OSError):
            (self._pulling / _name(image)).unlink(missing_ok=True)

    def adopt(self, images: Iterable[cri_pb2.Image]) -> None:
        """Turn pulls that an earlier kubelet began and that came through into pulled images."""
        begun = {
            str(record["image"]): path
            for path, record in _read_all(self._pulling, "ImagePullIntent")
            if "image" in record and record["image"] not in self._under_way
        }
        for image in images:
            for name in (*image.repo_tags, *image.repo_digests):
                if name in begun:
                    with contextlib.suppress(OSError):
                        self._write(name, image.id, None)
                        begun.pop(name).unlink(missing_ok=True)

    def prune(self, present: Iterable[str], until: datetime) -> None:
        """Forget images pulled before ``until`` that are not ``present`` (ids) any more."""
        known = set(present)
        for path, record in _read_all(self._pulled, "ImagePulledRecord"):
            try:
                updated = datetime.fromisoformat(str(record["lastUpdatedTime"]))
            except (KeyError, ValueError):
                continue
            if record.get("imageRef") not in known and updated < until:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)

    def usable(self, image: str, reference: str) -> bool | None:
        """Return whether pods may use an image that is here.

        Args:
            image: name as in the pod.
            reference: id of the image that is here.

        Returns:
            True: any pod may; False: only after it was pulled for it; None: see `fits`.
        """
        record = _read(self._pulled / _name(reference), "ImagePulledRecord")
        ours = (
            record is not None
            or image in self._under_way
            or (self._pulling / _name(image)).exists()
        )
        if not self._verified(image, ours):
            return True
        entry = _mapping(record).get(without_tag(image))
        if not isinstance(entry, dict):
            return False
        if entry.get("nodePodsAccessible"):
            return True
        known = entry.get("kubernetesSecrets") or entry.get("kubernetesServiceAccounts")
        return None if known else False

    def fits(self, image: str, reference: str, credentials: Iterable[Credential]) -> bool:
        """Return whether the credentials of a pod are among those that the image came by."""
        record = _read(self._pulled / _name(reference), "ImagePulledRecord")
        entry = _mapping(record).get(without_tag(image))
        if not isinstance(entry, dict):
            return False
        return any(self._fits(image, reference, entry, one) for one in credentials)

    def _verified(self, image: str, ours: bool) -> bool:
        if self._policy == NEVER:
            return False
        if self._policy == PRELOADED:
            return ours
        if self._policy == LISTED:
            name = without_tag(image)
            return not any(
                name.startswith(pattern[:-1]) if pattern.endswith("/*") else name == pattern
                for pattern in self._allowed
            )
        return True

    def _fits(
        self, image: str, reference: str, entry: dict[str, Any], credential: Credential
    ) -> bool:
        source = credential.source
        if source is None:
            return False
        coordinates = {"uid": source.uid, "namespace": source.namespace, "name": source.name}
        if source.kind != "Secret":
            return coordinates in (entry.get("kubernetesServiceAccounts") or [])
        secrets = entry.get("kubernetesSecrets") or []
        wanted = {**coordinates, "credentialHash": credential.hash}
        if wanted in secrets:
            return True
        same = any(
            one.get("credentialHash") == credential.hash
            or all(one.get(key) == value for key, value in coordinates.items())
            for one in secrets
        )
        if same and len(secrets) < MOST_SECRETS:
            with contextlib.suppress(OSError):
                self._write(image, reference, _entry(credential))
        return same

    def _write(self, image: str, reference: str, entry: dict[str, Any] | None) -> None:
        """Add to what is written down of an image; ``entry`` None: unknown how it was pulled."""
        path = self._pulled / _name(reference)
        record = _read(path, "ImagePulledRecord") or {}
        mapping = dict(_mapping(record))
        name = without_tag(image)
        if entry is not None:
            mapping[name] = _merge(mapping.get(name), entry)
        if record and mapping == _mapping(record):
            return
        content = {
            "kind": "ImagePulledRecord",
            "apiVersion": _API,
            "lastUpdatedTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "imageRef": reference,
            "credentialMapping": mapping,
        }
        self._pulled.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, json.dumps(content), sync=True)


def _mapping(record: dict[str, Any] | None) -> dict[str, Any]:
    mapping = (record or {}).get("credentialMapping")
    return mapping if isinstance(mapping, dict) else {}


def _entry(credential: Credential | None) -> dict[str, Any]:
    if credential is None or credential.source is None:
        return {"nodePodsAccessible": True}
    source = credential.source
    coordinates = {"uid": source.uid, "namespace": source.namespace, "name": source.name}
    if source.kind == "Secret":
        return {"kubernetesSecrets": [{**coordinates, "credentialHash": credential.hash}]}
    return {"kubernetesServiceAccounts": [coordinates]}


def _merge(before: Any, entry: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(before, dict) or entry.get("nodePodsAccessible"):
        return entry
    if before.get("nodePodsAccessible"):
        return before
    merged = dict(before)
    for key, added in entry.items():
        kept = [one for one in before.get(key) or [] if not _same(one, added[0])]
        merged[key] = [*kept, *added]
    return merged


def _same(one: Any, other: dict[str, Any]) -> bool:
    keys = ("uid", "namespace", "name")
    return isinstance(one, dict) and all(one.get(key) == other.get(key) for key in keys)


def _name(text: str) -> str:
    return f"sha256-{hashlib.sha256(text.encode()).hexdigest()}"


def _read(path: Path, kind: str) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_bytes())
        if isinstance(content, dict) and content.get("kind") == kind:
            return content
        raise ValueError(f"no {kind}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logs.event(
            _log, logging.ERROR, "record of an image set aside",
            path=str(path), reason=str(error),
        )  # fmt: skip
        with contextlib.suppress(OSError):
            path.replace(path.with_name(f"{path.name}.corrupt"))
        return None


def _read_all(directory: Path, kind: str) -> Iterable[tuple[Path, dict[str, Any]]]:
    with contextlib.suppress(FileNotFoundError):
        for name in sorted(os.listdir(directory)):
            if name.endswith((".corrupt", ".tmp")):
                continue
            path = directory / name
            record = _read(path, kind)
            if record is not None:
                yield path, record
