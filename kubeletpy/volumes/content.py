"""configMap, secret, downwardAPI and projected volumes: files that follow the API's objects.

They are set up again whenever the pod or an object changes, and for tokens by time; the files
change in one step (`atomic_writer`). Secrets, and whatever may hold some, never reach a disk.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from kubeletpy.api.defaults import DEFAULT_FILE_MODE
from kubeletpy.api.pod import Pod
from kubeletpy.api.volumes import (
    ConfigMapVolumeSource,
    NamedProjection,
    SecretVolumeSource,
    ServiceAccountTokenProjection,
    Volume,
    VolumeProjection,
)

from . import atomic_writer, empty_dir, nested, ownership
from .context import Context
from .errors import UnreachableError, VolumeError
from .objects import ObjectMissing, ObjectsUnreachable
from .paths import CONFIG_MAP, DOWNWARD_API, PROJECTED, SECRET
from .payload import (
    Payload,
    PayloadError,
    PayloadUnreachableError,
    of_credential,
    of_fields,
    of_keys,
    values_of,
)
from .plugin import MountRecord, SetUp, VolumePlugin, VolumeRequest, VolumeSource

DEFAULT_TOKEN_SECONDS = 3600
_RESOURCES = {"configmap": "configmaps", "secret": "secrets"}
Collected = tuple[Payload, float | None]
"""Files, and when they have to be made anew (seconds since the epoch)."""


class ContentPlugin:
    """One of the kinds whose content is made here; see `VolumePlugin`.

    Args:
        name: of the plugin.
        attribute: of the volume's source, for instance ``config_map``.
        memory: whether the files are kept in memory.
        context: what the plugins share.
        collect: makes the files.
    """

    mount_options = False
    follows = True

    def __init__(
        self,
        name: str,
        attribute: str,
        context: Context,
        collect: Callable[[VolumeRequest], Awaitable[Collected]],
        *,
        memory: bool,
    ) -> None:
        self.name = name
        self._attribute = attribute
        self._memory = memory
        self._context = context
        self._collect = collect

    def supports(self, source: VolumeSource) -> bool:
        """See `VolumePlugin`."""
        return source.inline is not None and getattr(source.inline, self._attribute) is not None

    def path(self, request: VolumeRequest) -> str:
        """See `VolumePlugin`."""
        return str(request.directory)

    def read_only(self, request: VolumeRequest) -> bool:
        """Containers never write here: what they wrote would be lost, or be acted upon."""
        return True

    async def set_up(self, request: VolumeRequest) -> SetUp:
        """See `VolumePlugin`."""
        try:
            payload, renew = await self._collect(request)
        except PayloadUnreachableError as error:
            raise UnreachableError("", str(error)) from error
        except PayloadError as error:
            raise VolumeError("", str(error)) from error
        changed = await self._context.run(
            request, f"writing volume {request.name}", lambda: self._write(request, payload)
        )
        again = None if renew is None else max(renew - time.time(), 1.0)
        return SetUp(again_after=again, changed=changed)

    def _write(self, request: VolumeRequest, payload: Payload) -> bool:
        directory = request.directory
        medium = "Memory" if self._memory else ""
        empty_dir.make(directory, request.pod, medium, self._context.node)
        nested.make_mount_points(directory, request.pod, request.name)

        def own() -> None:
            ownership.change(directory, request.fs_group, read_only=True)

        try:
            return atomic_writer.write(directory, payload, own)
        except PayloadError as error:
            raise VolumeError("", str(error)) from error

    async def tear_down(self, uid: str, record: MountRecord) -> None:
        """Nothing: what is mounted and made below the pod's directory goes with it."""
        self._context.tokens.forget(uid)


class Collector:
    """Makes the content of volumes from what the API server has."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def config_map(self, request: VolumeRequest) -> Collected:
        """Return the files of a configMap volume.

        Raises:
            PayloadError: they cannot be made.
        """
        source = _inline(request).config_map
        assert source is not None
        return await self._of_object("configmap", source.name, request.pod, source), None

    async def secret(self, request: VolumeRequest) -> Collected:
        """Return the files of a secret volume.

        Raises:
            PayloadError: they cannot be made.
        """
        source = _inline(request).secret
        assert source is not None
        return await self._of_object("secret", source.secret_name, request.pod, source), None

    async def downward_api(self, request: VolumeRequest) -> Collected:
        """Return the files of a downwardAPI volume.

        Raises:
            PayloadError: they cannot be made.
        """
        source = _inline(request).downward_api
        assert source is not None
        mode = _mode(source.default_mode)
        return of_fields(request.pod, source.items, mode, self._context.node), None

    async def projected(self, request: VolumeRequest) -> Collected:
        """Return the files of a projected volume; a later source wins over an earlier one.

        Raises:
            PayloadError: a source fails; the messages of all that do.
        """
        source = _inline(request).projected
        assert source is not None
        mode = _mode(source.default_mode)
        payload: Payload = {}
        failed: list[PayloadError] = []
        times = []
        for part in source.sources:
            try:
                files, renew = await self._part(request.pod, part, mode)
            except PayloadError as error:
                failed.append(error)
                continue
            payload.update(files)
            times += [] if renew is None else [renew]
        if failed:
            texts = list(dict.fromkeys(str(error) for error in failed))
            message = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
            away = all(isinstance(error, PayloadUnreachableError) for error in failed)
            raise PayloadUnreachableError(message) if away else PayloadError(message)
        return payload, min(times, default=None)

    async def _part(self, pod: Pod, part: VolumeProjection, mode: int) -> Collected:
        if part.secret is not None:
            return await self._of_object("secret", part.secret.name, pod, part.secret, mode), None
        if part.config_map is not None:
            named = part.config_map
            return await self._of_object("configmap", named.name, pod, named, mode), None
        if part.downward_api is not None:
            return of_fields(pod, part.downward_api.items, mode, self._context.node), None
        if part.service_account_token is not None:
            return await self._token(pod, part.service_account_token, mode)
        if part.cluster_trust_bundle is not None:
            raise PayloadError("clusterTrustBundle projections are not supported by this kubelet")
        if part.pod_certificate is not None:
            raise PayloadError("podCertificate projections are not supported by this kubelet")
        return {}, None

    async def _token(self, pod: Pod, source: ServiceAccountTokenProjection, mode: int) -> Collected:
        seconds = source.expiration_seconds or DEFAULT_TOKEN_SECONDS
        token = await self._context.tokens.get(pod, source.audience, seconds)
        return of_credential(pod, source.path, token.value.encode(), mode), token.renew

    async def _of_object(
        self,
        kind: str,
        name: str,
        pod: Pod,
        source: ConfigMapVolumeSource | SecretVolumeSource | NamedProjection,
        mode: int | None = None,
    ) -> Payload:
        """Return the files of one object; ``mode`` is that of a projected volume."""
        optional = bool(source.optional)
        if mode is None:
            assert not isinstance(source, NamedProjection)
            mode = _mode(source.default_mode)
        try:
            found = await self._context.objects.get(_RESOURCES[kind], pod.metadata.namespace, name)
        except ObjectMissing as error:
            if not optional:
                raise PayloadError(f'{kind} "{name}" not found') from error
            found = {}
        except ObjectsUnreachable as error:
            raise PayloadUnreachableError(str(error)) from error
        values = values_of(kind, found)
        return of_keys(kind, values, source.items, mode, optional=optional)


def _inline(request: VolumeRequest) -> Volume:
    assert request.source.inline is not None
    return request.source.inline


def _mode(default: int | None) -> int:
    return DEFAULT_FILE_MODE if default is None else default


def plugins(context: Context) -> list[VolumePlugin]:
    """Return the plugins of this module."""
    collector = Collector(context)
    return [
        ContentPlugin(CONFIG_MAP, "config_map", context, collector.config_map, memory=False),
        ContentPlugin(SECRET, "secret", context, collector.secret, memory=True),
        ContentPlugin(DOWNWARD_API, "downward_api", context, collector.downward_api, memory=True),
        ContentPlugin(PROJECTED, "projected", context, collector.projected, memory=True),
    ]
