"""Image volumes (KEP-4639): the files of an OCI image, mounted by the runtime itself."""

from __future__ import annotations

from .paths import IMAGE
from .plugin import MountRecord, SetUp, VolumeRequest, VolumeSource


class ImagePlugin:
    """See `VolumePlugin`; the image is pulled when a container is about to start."""

    name = IMAGE
    mount_options = False
    follows = False

    def supports(self, source: VolumeSource) -> bool:
        """See `VolumePlugin`."""
        return source.inline is not None and source.inline.image is not None

    def path(self, request: VolumeRequest) -> str:
        """Nothing of the node: the runtime knows where the image is."""
        return ""

    def read_only(self, request: VolumeRequest) -> bool:
        """An image belongs to all who use it."""
        return True

    async def set_up(self, request: VolumeRequest) -> SetUp:
        """Nothing to be made on the node."""
        return SetUp()

    async def tear_down(self, uid: str, record: MountRecord) -> None:
        """Nothing was made."""
