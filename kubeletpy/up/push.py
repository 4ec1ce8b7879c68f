"""Pushes an image by the OCI distribution API (specification 1.1, section "Push")."""

from __future__ import annotations

import aiohttp
from yarl import URL

from kubeletpy.up.errors import UpError
from kubeletpy.up.image import Blob, Image

_TIMEOUT = aiohttp.ClientTimeout(total=60)


async def push(image: Image, registry: str, repository: str, tag: str) -> str:
    """Push ``image`` to the plain-HTTP ``registry`` (``host:port``) and return its reference.

    Blobs that are there already are not sent again.

    Raises:
        UpError: the registry cannot be reached or refuses a part.
    """
    base = URL(f"http://{registry}/v2/{repository}/")
    try:
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            for blob in (image.layer, image.config):
                await _push_blob(session, base, blob)
            async with session.put(
                base / "manifests" / tag,
                data=image.manifest.content,
                headers={"Content-Type": image.manifest.media_type},
            ) as answer:
                await _expect(answer, 201)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise UpError(f"cannot push to {base}: {error or type(error).__name__}") from error
    return f"{registry}/{repository}:{tag}"


async def _push_blob(session: aiohttp.ClientSession, base: URL, blob: Blob) -> None:
    async with session.head(base / "blobs" / blob.digest) as answer:
        if answer.status == 200:
            return
    async with session.post(base / "blobs" / "uploads" / "") as answer:
        await _expect(answer, 202)
        # It may be relative, and may carry a query of the registry's own.
        location = answer.url.join(URL(answer.headers["Location"], encoded=True))
    async with session.put(
        location.update_query(digest=blob.digest),
        data=blob.content,
        headers={"Content-Type": "application/octet-stream"},
    ) as answer:
        await _expect(answer, 201)


async def _expect(answer: aiohttp.ClientResponse, status: int) -> None:
    if answer.status != status:
        text = (await answer.text())[:300].strip()
        raise UpError(
            f"the registry answered {answer.method} {answer.url} with {answer.status} instead of "
            f"{status}: {text}"
        )
