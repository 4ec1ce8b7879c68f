"""Image volumes (KEP-4639): images that a container mounts, read-only, below its root.

Their layers are kept for as long as the container is, whatever becomes of the image; nothing is
mounted on the host: the container's first process stacks the layers in its own mount namespace
(``runtime/oci/image_steps.py``).
"""

from __future__ import annotations

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.errors import ImageVolumeError, MissingVolumeImageError
from runtime.cri.runtime import Runtime
from runtime.images.errors import ImageNotFound
from runtime.images.image import Image
from runtime.oci.request import ImageVolume
from runtime.state.store import Container


def note_volume_images(runtime: Runtime, config: cri.ContainerConfig) -> None:
    """Check the image volumes of a request, and write down which images they are of.

    ``image_ref`` of each becomes the id of its image, as ContainerStatus is to tell (KEP-5365),
    also after the image has got another name or none.

    Raises:
        ImageVolumeError: a volume contradicts itself.
        MissingVolumeImageError: its image is not here.
    """
    for number, mount in enumerate(config.mounts):
        if not mount.HasField("image"):
            if mount.image_sub_path:
                raise ImageVolumeError(f"mounts[{number}].image_sub_path is of no image")
            continue
        _check(f"mounts[{number}]", mount)
        mount.image.image_ref = _find(runtime, f"mounts[{number}]", mount.image.image).id


def keep_volume_images(runtime: Runtime, container: Container) -> dict[int, ImageVolume]:
    """Keep the layers of a container's image volumes; blocking, and can be repeated.

    Returns:
        what to mount, by the number of the mount in the request.

    Raises:
        ImageVolumeError: an image does not have the sub-path.
        MissingVolumeImageError: an image was removed meanwhile.
        StoreError: the disk or the database failed.
    """
    volumes: dict[int, ImageVolume] = {}
    for number, mount in enumerate(container.config.mounts):
        if not mount.HasField("image"):
            continue
        what = f"mounts[{number}]"
        image = _find(runtime, what, mount.image.image_ref)
        try:
            layers = runtime.snapshots.prepare_volume(container.id, str(number), image)
            path = mount.image_sub_path
            if path and runtime.snapshots.find_in_image(image, path) is None:
                raise ImageVolumeError(
                    f"{what}.image_sub_path {path!r} does not exist in image {mount.image.image!r}"
                )
        except ImageNotFound as error:
            raise MissingVolumeImageError(f"{what}.image: {error}") from error
        volumes[number] = ImageVolume(layers.base, layers.layers, path.strip("/"))
    return volumes


def _check(what: str, mount: cri.Mount) -> None:
    if not mount.image.image:
        raise ImageVolumeError(f"{what}.image.image is empty: name an image that was pulled")
    if mount.host_path:
        raise ImageVolumeError(f"{what} has both an image and a host_path: choose one")
    if not mount.readonly:
        raise ImageVolumeError(f"{what} is of an image: those are read-only, set readonly")
    if mount.propagation == cri.PROPAGATION_BIDIRECTIONAL:
        raise ImageVolumeError(f"{what} is of an image: nothing can propagate from it")
    path = mount.image_sub_path
    if path.startswith("/") or "\0" in path or ".." in path.split("/"):
        raise ImageVolumeError(
            f"{what}.image_sub_path {path!r} is not a plain path relative to the image's root"
        )


def _find(runtime: Runtime, what: str, name: str) -> Image:
    image = runtime.images.get(name)
    if image is None:
        raise MissingVolumeImageError(f"{what}.image {name!r} is not here: pull it first")
    return image
