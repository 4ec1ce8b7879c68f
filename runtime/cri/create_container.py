"""CreateContainer: a root file system and an OCI configuration, ready to be started."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from kubeletpy_common.cgroups import LinuxResources
from kubeletpy_proto import cri_pb2 as cri
from runtime.cdi.edits import complete_edits, merge_edits
from runtime.cdi.registry import requested_names
from runtime.cri.bundle import write_bundle
from runtime.cri.cgroups import container_path
from runtime.cri.errors import InvalidRequestError, NotReadyError
from runtime.cri.host_paths import look_at_sources, prepare_log
from runtime.cri.image_volumes import keep_volume_images, note_volume_images
from runtime.cri.lifecycle import publish
from runtime.cri.runtime import Runtime
from runtime.cri.seccomp_files import read_localhost_profile
from runtime.cri.teardown import destroy_container
from runtime.cri.volumes import make_volumes
from runtime.images.errors import ImageNotFound
from runtime.oci.devices import requested_devices
from runtime.oci.executable import refuse_beyond_executor
from runtime.oci.request import PodPaths, TranslationRequest
from runtime.oci.signals import stop_signal
from runtime.oci.translate import translate
from runtime.oci.users import FILE_LIMIT, ResolvedUser, UserRequest, resolve_user
from runtime.shim.messages import Rootfs
from runtime.state import records
from runtime.state.records import ContainerRecord, ContainerState
from runtime.state.store import Container, Pod, container_name

if TYPE_CHECKING:
    from runtime.images.image import Image


@dataclass(frozen=True)
class _Made:
    """What came of the steps that touch the disk."""

    user: ResolvedUser
    oci: dict[str, Any]


async def create_container(
    runtime: Runtime, request: cri.CreateContainerRequest
) -> cri.CreateContainerResponse:
    """Make a container in a ready pod; nothing of it runs yet.

    Raises:
        InvalidRequestError, TranslationError, UserError: the request.
        NotFoundError: there is no such pod.
        NotReadyError: the pod is down.
        ImageNotFound: the image is not here.
        ImageVolumeError: an image volume.
        NameTakenError: the pod has a container with this name and attempt.
        OSError: it could not be made; nothing of it is left.
    """
    pod = runtime.store.pod(request.pod_sandbox_id)
    config = request.config
    _check(pod, config)
    async with pod.lock:
        if not pod.ready:
            raise NotReadyError(f"pod sandbox {pod.id} is not ready: make a new one")
        image = runtime.images.get(config.image.image)
        if image is None:
            raise ImageNotFound(f"image {config.image.image!r} is not here: pull it first")
        note_volume_images(runtime, config)
        record = _new_record(pod, config, image)
        container = runtime.store.add_container(record, config, pod)
        async with AsyncExitStack() as undo:
            undo.push_async_callback(destroy_container, runtime, container)
            await _make(runtime, container, image)
            undo.pop_all()
        publish(runtime, pod, container.id, cri.CONTAINER_CREATED_EVENT)
    return cri.CreateContainerResponse(container_id=container.id)


def _check(pod: Pod, config: cri.ContainerConfig) -> None:
    if not config.metadata.name:
        raise InvalidRequestError("config.metadata.name is empty: a container needs a name")
    if not config.image.image:
        raise InvalidRequestError("config.image.image is empty: a container needs an image")
    privileged = config.linux.security_context.privileged
    if privileged and not pod.config.linux.security_context.privileged:
        raise InvalidRequestError(
            "a privileged container needs a privileged pod sandbox: make the sandbox with "
            "linux.security_context.privileged"
        )


def _new_record(pod: Pod, config: cri.ContainerConfig, image: Image) -> ContainerRecord:
    container_id = secrets.token_hex(32)
    return ContainerRecord(
        id=container_id,
        sandbox_id=pod.id,
        name=container_name(config.metadata, pod),
        state=ContainerState.CREATING,
        created_at=time.time_ns(),
        cgroup=container_path(pod.record.cgroup, container_id),
        image_id=image.id,
        stop_signal=stop_signal(config.stop_signal, image.config.stop_signal),
    )


async def _make(runtime: Runtime, container: Container, image: Image) -> None:
    config = container.config
    rootfs = await asyncio.to_thread(runtime.snapshots.prepare, container.id, image)
    made = await asyncio.to_thread(_make_bundle, runtime, container, image, rootfs)
    # What cgroups cannot do is told now, not at the start.
    LinuxResources.from_oci(made.oci["linux"]["resources"])
    log_path = prepare_log(container.pod.config.log_directory, config.log_path)
    complete = msgspec.structs.replace(
        container.record,
        rootfs=rootfs,
        log_path=log_path,
        uid=made.user.uid,
        gid=made.user.gid,
        groups=made.oci["process"]["user"]["additionalGids"],
    )
    runtime.store.update_container(container, records.created(complete))


def _make_bundle(runtime: Runtime, container: Container, image: Image, rootfs: Rootfs) -> _Made:
    """Do what reads or writes many files; runs in a thread, and touches no shared state."""
    pod, config = container.pod, container.config
    user = _resolve_user(runtime, config, image)
    directory = runtime.sandbox_directory(pod.id)
    options = pod.config.linux.security_context.namespace_options
    shm = "/dev/shm" if options.ipc == cri.NODE else str(directory / "shm")
    request = TranslationRequest(
        container_id=container.id,
        sandbox_id=pod.id,
        sandbox=pod.config,
        container=config,
        image=image.config,
        user=user,
        pod_paths=PodPaths(
            hostname=str(directory / "hostname"),
            resolv_conf=str(directory / "resolv.conf"),
            hosts=str(directory / "hosts"),
            shm=shm,
        ),
        namespaces=pod.record.namespaces,
        target_pid_namespace=_target_namespace(pod, config),
        volumes=make_volumes(runtime, container, image, rootfs),
        image_volumes=keep_volume_images(runtime, container),
        sources=look_at_sources(list(config.mounts)),
        devices=requested_devices(config),
        cgroup=container.record.cgroup,
        host=runtime.host,
        localhost_profile=read_localhost_profile(config.linux.security_context),
    )
    oci = translate(request)
    merge_edits(oci, complete_edits(runtime.cdi.resolve(requested_names(config))))
    external = pod.record.external is not None
    if not external:
        refuse_beyond_executor(oci)
    write_bundle(runtime.container_directory(container.id), oci, external=external)
    return _Made(user, oci)


def _resolve_user(runtime: Runtime, config: cri.ContainerConfig, image: Image) -> ResolvedUser:
    security = config.linux.security_context
    wanted = UserRequest(
        uid=security.run_as_user.value if security.HasField("run_as_user") else None,
        gid=security.run_as_group.value if security.HasField("run_as_group") else None,
        username=security.run_as_username,
        supplemental=tuple(security.supplemental_groups),
        strict=security.supplemental_groups_policy == cri.Strict,
    )
    passwd = runtime.snapshots.read_image_file(image, "/etc/passwd", FILE_LIMIT)
    group = runtime.snapshots.read_image_file(image, "/etc/group", FILE_LIMIT)
    return resolve_user(wanted, image.config.user, passwd, group)


def _target_namespace(pod: Pod, config: cri.ContainerConfig) -> str:
    options = config.linux.security_context.namespace_options
    if options.pid != cri.TARGET:
        return ""
    # Only of the same pod: another one's processes are none of its business.
    target = pod.containers.get(options.target_id)
    if target is None or target.record.state is not ContainerState.RUNNING:
        raise InvalidRequestError(
            f"namespace_options.target_id {options.target_id!r} is no running container of pod "
            f"sandbox {pod.id}"
        )
    return f"/proc/{target.record.pid}/ns/pid"
