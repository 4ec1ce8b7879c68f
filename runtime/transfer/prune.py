"""Prune: away with images that no container uses."""

from __future__ import annotations

from kubeletpy_proto import images_pb2 as pb
from runtime.cri.runtime import Runtime
from runtime.images.pruning import prune as prune_images
from runtime.transfer.messages import image_message


async def prune(runtime: Runtime, request: pb.PruneRequest) -> pb.PruneResponse:
    """Remove what is not needed; it runs to its end even if the caller goes away.

    Raises:
        ImageError: the store could not be changed.
    """
    used = {container.record.image_id for container in runtime.store.containers()}
    pruned = await prune_images(
        runtime.images, used, everything=request.all, dry_run=request.dry_run
    )
    images = [image_message(image) for image in pruned.images]
    return pb.PruneResponse(removed=images, bytes=pruned.bytes)
