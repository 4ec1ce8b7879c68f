"""The ``mounts`` part of an OCI configuration (pure)."""

from __future__ import annotations

import posixpath
from typing import Any, Final

from kubeletpy_proto import cri_pb2 as cri
from runtime.oci.defaults import CGROUP_OPTIONS, DEFAULT_MOUNTS, SYS_OPTIONS
from runtime.oci.request import BindSource, TranslationError, TranslationRequest
from runtime.oci.translate_process import check_text
from runtime.oci.translate_users import check_volume, linux_mappings

BIND_OPTIONS: Final = ("noexec", "nodev", "nosuid")
"""What ``mount_options`` of a mount may hold (KEP-5855)."""

IMAGE_TYPE: Final = "image"
"""The ``type`` of an image volume in our OCI configurations."""


def translate_mounts(request: TranslationRequest) -> list[dict[str, Any]]:
    """Return all mounts in the order in which they have to be made.

    What the client mounts replaces a default on the same path. The others are sorted by depth, so
    that nothing hides what was mounted before below it.

    Raises:
        TranslationError: a path is relative or the root, or an option is not supported.
    """
    asked = [_client_mount(number, mount, request) for number, mount in enumerate(
        request.container.mounts)]  # fmt: skip
    taken = {mount["destination"] for mount in asked}
    if len(taken) != len(asked):
        paths = [mount["destination"] for mount in asked]
        double = sorted({path for path in paths if paths.count(path) > 1})
        raise TranslationError(f"more than one mount on {', '.join(double)}: only one can show")
    kept = [
        mount
        for mount in _kernel_mounts(privileged=request.security.privileged)
        if not _covered(mount["destination"], taken)
    ]
    # Without a mapping, what is in them belongs to nobody inside, and can be used all the same.
    pods = _pod_mounts(request)
    pods = _mapped(pods, request) if request.host.tmpfs_maps_ids else pods
    volumes = _mapped(_volumes(request), request)
    own = [mount for mount in pods + volumes if mount["destination"] not in taken]
    return kept + sorted(own + asked, key=lambda mount: _depth(mount["destination"]))


def normal_path(path: str, what: str) -> str:
    """Return an absolute path of the container without ``.`` and ``..``.

    A relative one starts at the root, as with containerd.

    Raises:
        TranslationError: it is empty, the root itself, or holds a NUL.
    """
    check_text(path, what)
    # POSIX gives two leading slashes a meaning of their own, and normpath keeps them.
    normal = "/" + posixpath.normpath("/" + path).lstrip("/")
    if not path or normal == "/":
        raise TranslationError(f"{what} {path!r} is empty or the root of the container")
    return normal


def _kernel_mounts(*, privileged: bool) -> list[dict[str, Any]]:
    access = "rw" if privileged else "ro"
    return [
        *DEFAULT_MOUNTS,
        {
            "destination": "/sys",
            "type": "sysfs",
            "source": "sysfs",
            "options": [*SYS_OPTIONS, access],
        },
        {
            "destination": "/sys/fs/cgroup",
            "type": "cgroup",
            "source": "cgroup",
            "options": [*CGROUP_OPTIONS, access],
        },
    ]


def _covered(path: str, taken: set[str]) -> bool:
    if path in taken:
        return True
    # A client that brings its own /dev or /sys does not want ours inside it.
    return any(path.startswith(f"{top}/") for top in ("/dev", "/sys") if top in taken)


def _pod_mounts(request: TranslationRequest) -> list[dict[str, Any]]:
    options = ["rbind", "rprivate"]
    if request.security.readonly_rootfs:
        options.append("ro")
    paths = request.pod_paths
    files = (
        ("/etc/hostname", paths.hostname),
        ("/etc/hosts", paths.hosts),
        ("/etc/resolv.conf", paths.resolv_conf),
    )
    mounts = [_bind(target, source, options) for target, source in files]
    # Memory to write to is no change of the root file system: never read-only.
    shm = ["rbind", "rprivate", "nosuid", "nodev", "noexec"]
    return [*mounts, _bind("/dev/shm", paths.shm, shm)]


def _volumes(request: TranslationRequest) -> list[dict[str, Any]]:
    return [
        _bind(normal_path(target, "VOLUME of the image"), source, ["rbind", "rprivate"])
        for target, source in request.volumes.items()
    ]


def _client_mount(number: int, mount: cri.Mount, request: TranslationRequest) -> dict[str, Any]:
    what = f"mounts[{number}]"
    target = normal_path(mount.container_path, f"{what}.container_path")
    _refuse_unsupported(what, mount, request)
    source = request.sources.get(mount.host_path)
    if target == "/proc" and (source is None or source.path != "/proc"):
        # The runtime writes to procfs on the container's behalf (CVE-2019-16884).
        given = repr(source.path) if source else "an image"
        raise TranslationError(
            f"{what}: only the host's /proc can be mounted on /proc, not {given}"
        )
    if mount.HasField("image"):
        return _image_mount(number, mount, request, target)
    if source is None:
        raise TranslationError(f"{what}.host_path {mount.host_path!r} was not looked at")
    options = ["rbind", _propagation(what, mount, source), *_access(what, mount)]
    bind = _bind(target, source.path, options)
    return _mapped([bind], request)[0] if check_volume(what, mount, request) else bind


def _image_mount(
    number: int, mount: cri.Mount, request: TranslationRequest, target: str
) -> dict[str, Any]:
    """Return the mount of an image: of a type that no specification knows, for the executor."""
    what = f"mounts[{number}]"
    volume = request.image_volumes.get(number)
    if volume is None:
        raise TranslationError(f"{what}.image {mount.image.image!r} was not looked at")
    # The layers are mapped with the container's own; the mappings must fit all the same.
    check_volume(what, mount, request)
    return {
        "destination": target,
        "type": IMAGE_TYPE,
        "source": volume.base,
        "options": _access(what, mount),
        "layers": list(volume.layers),
        "subPath": volume.sub_path,
    }


def _access(what: str, mount: cri.Mount) -> list[str]:
    """Return the options that restrict what can be done through a mount."""
    options = ["ro"] if mount.readonly else []
    if mount.recursive_read_only:
        if not mount.readonly or mount.propagation != cri.PROPAGATION_PRIVATE:
            raise TranslationError(
                f"{what}: recursive_read_only needs readonly and private propagation"
            )
        options.append("rro")
    for option in mount.mount_options:
        if option not in BIND_OPTIONS:
            raise TranslationError(
                f"{what}.mount_options {option!r} is none of {', '.join(BIND_OPTIONS)}"
            )
    return options + list(mount.mount_options)


def _propagation(what: str, mount: cri.Mount, source: BindSource) -> str:
    if mount.propagation == cri.PROPAGATION_PRIVATE:
        return "rprivate"
    if mount.propagation == cri.PROPAGATION_HOST_TO_CONTAINER:
        if not (source.shared or source.slave):
            raise TranslationError(
                f"{what}: propagation HOST_TO_CONTAINER needs {source.path!r} on a shared or "
                "slave mount of the host; `mount --make-shared` makes one"
            )
        return "rslave"
    if mount.propagation == cri.PROPAGATION_BIDIRECTIONAL:
        if not source.shared:
            raise TranslationError(
                f"{what}: propagation BIDIRECTIONAL needs {source.path!r} on a shared mount of "
                "the host; `mount --make-shared` makes one"
            )
        return "rshared"
    raise TranslationError(f"{what}: propagation {mount.propagation} is unknown")


def _refuse_unsupported(what: str, mount: cri.Mount, request: TranslationRequest) -> None:
    unsupported = {
        # Without SELinux there are no labels that could be changed.
        "selinux_relabel": mount.selinux_relabel and request.host.selinux,
    }
    found = [name for name, given in unsupported.items() if given]
    if found:
        raise TranslationError(f"{what}: {', '.join(found)} is not supported yet; leave it out")
    if not mount.host_path and not mount.HasField("image"):
        raise TranslationError(f"{what}.host_path is empty")


def _mapped(mounts: list[dict[str, Any]], request: TranslationRequest) -> list[dict[str, Any]]:
    """Return the mounts, with the pod's id mappings if it has some."""
    mappings = linux_mappings(request)
    return [mount | mappings for mount in mounts]


def _bind(target: str, source: str, options: list[str]) -> dict[str, Any]:
    return {"destination": target, "type": "bind", "source": source, "options": list(options)}


def _depth(path: str) -> int:
    return path.count("/")
