"""ImageStatus: what is known of one image."""

from __future__ import annotations

import json

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.images import image_message, named_image
from runtime.cri.runtime import Runtime
from runtime.images.errors import InvalidReference


async def image_status(
    runtime: Runtime, request: cri.ImageStatusRequest
) -> cri.ImageStatusResponse:
    """Return an image by name or id; an absent one is no error but an empty answer.

    Raises:
        InvalidRequestError, UnknownHandlerError: no image is named, or an unknown handler.
    """
    name = named_image(runtime, request.image)
    try:
        image = runtime.images.get(name)
    except InvalidReference:
        image = None
    if image is None:
        return cri.ImageStatusResponse()
    info: dict[str, str] = {}
    if request.verbose:
        config = image.config
        info["info"] = json.dumps(
            {
                "chainIDs": list(image.chain),
                "imageSpec": {
                    "config": {
                        "User": config.user,
                        "Env": list(config.env),
                        "Entrypoint": list(config.entrypoint),
                        "Cmd": list(config.cmd),
                        "WorkingDir": config.working_dir,
                        "StopSignal": config.stop_signal,
                        "Volumes": list(config.volumes),
                        "Labels": dict(config.labels),
                        "ExposedPorts": list(config.exposed_ports),
                    }
                },
            }
        )
    return cri.ImageStatusResponse(image=image_message(image), info=info)
