"""Bad images: whatever happens, the store stays as it was."""

from __future__ import annotations

import json
import os

import pytest

from runtime.images.errors import (
    DigestMismatch,
    ImageError,
    ImageNotFound,
    MalformedImage,
    UnsafeLayer,
    UnsupportedMedia,
)
from runtime.images.service import ImageStore
from tests.root.runtime.images.stores import assert_empty, directories
from tests.support.ociimage import (
    OCI_LAYER,
    OciImage,
    assemble,
    build_image,
    compress,
    dumps,
    tar_layer,
)
from tests.support.registry import DockerRegistry
from tests.support.scripted_registry import ScriptedRegistry

pytestmark = pytest.mark.root

# Bad images. Whatever happens, the store stays as it was.


def forged(case: str) -> OciImage:
    good = build_image({"a": b"a"})
    tar, config = tar_layer({"a": b"a"}), json.loads(good.config)
    layer = compress(tar, "gzip")
    if case == "diff id":
        config["rootfs"]["diff_ids"] = ["sha256:" + "1" * 64]
    elif case == "missing diff id":
        config["rootfs"]["diff_ids"] = []
    elif case == "not gzip":
        layer = b"this is no gzip"
    elif case == "unsafe":
        unsafe = tar_layer([("../../../x", b"evil")])
        config["rootfs"]["diff_ids"] = [build_image({}, layers=[unsafe]).id]
        layer = compress(unsafe, "gzip")
    elif case == "config":
        return assemble(b"[]", [layer], layer_type=f"{OCI_LAYER}+gzip")
    elif case == "media type":
        return assemble(good.config, [layer], layer_type="application/zip")
    return assemble(dumps(config), [layer], layer_type=f"{OCI_LAYER}+gzip")


@pytest.mark.parametrize(
    ("case", "error"),
    [
        ("diff id", DigestMismatch),
        ("missing diff id", MalformedImage),
        ("not gzip", MalformedImage),
        ("unsafe", UnsafeLayer),
        ("config", MalformedImage),
        ("media type", UnsupportedMedia),
    ],
)
async def test_bad_images(
    hostile: ScriptedRegistry, store: ImageStore, case: str, error: type[ImageError]
) -> None:
    hostile.add(forged(case), "bad", "v1")
    hostile.add(build_image({"good": b"good"}), "good", "v1")
    good = await store.pull(f"{hostile.host}/good:v1")
    before = store.content.digests(), directories(store), store.list()
    with pytest.raises(error):
        await store.pull(f"{hostile.host}/bad:v1")
    await store.collect_garbage()
    assert (store.content.digests(), directories(store), store.list()) == before
    assert await store.pull(f"{hostile.host}/good:v1") == good


async def test_a_blob_replaced_by_the_registry(
    hostile: ScriptedRegistry, store: ImageStore
) -> None:
    built = build_image({"a": os.urandom(1000)})
    hostile.add(built, "app", "v1")
    layer = next(digest for digest in built.blobs if digest != built.id)
    hostile.blobs[layer] = b"!" * len(built.blobs[layer])
    with pytest.raises(DigestMismatch, match=layer):
        await store.pull(f"{hostile.host}/app:v1")
    await assert_empty(store)
    hostile.blobs[layer] = built.blobs[layer]
    assert (await store.pull(f"{hostile.host}/app:v1")).id == built.id


async def test_an_image_that_is_not_there(registry: DockerRegistry, store: ImageStore) -> None:
    with pytest.raises(ImageNotFound, match=rf"{registry.host}/nothing:v1"):
        await store.pull(f"{registry.host}/nothing:v1")
    await assert_empty(store)
