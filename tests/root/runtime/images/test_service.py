"""The image store as the CRI uses it, against Debian's docker-registry and hostile ones."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
from aiohttp import web

from runtime.images.errors import (
    ImageInUse,
    NoMatchingPlatform,
    StoreError,
)
from runtime.images.service import ImageStore
from runtime.images.settings import RegistryConfig, RegistrySettings
from tests.root.runtime.images.stores import QUICK, assert_empty, directories, mounted
from tests.support.ociimage import (
    OCI_INDEX,
    Entry,
    build_image,
    busybox_image,
    descriptor,
    dumps,
    push,
    push_manifest,
)
from tests.support.registry import DockerRegistry
from tests.support.scripted_registry import ScriptedRegistry

pytestmark = pytest.mark.root


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
async def test_busybox_of_a_real_registry_runs(
    registry: DockerRegistry, store: ImageStore, tmp_path: Path, compression: str
) -> None:
    built = busybox_image(
        {"www/index.html": b"<h1>hi</h1>"},
        config={"User": "web", "Cmd": ["httpd"]},
        compression=compression,  # type: ignore[arg-type]
    )
    digest = push(built, registry.host, "library/web", compression)
    image = await store.pull(f"{registry.host}/library/web:{compression}")
    assert image.id == built.id
    assert image.repo_tags == (f"{registry.host}/library/web:{compression}",)
    assert image.repo_digests == (f"{registry.host}/library/web@{digest}",)
    assert (image.config.user, image.config.cmd) == ("web", ("httpd",))
    rootfs = store.snapshots.prepare("c1", image)
    with ExitStack() as resources:
        root = mounted(rootfs, tmp_path / "mnt", resources)
        shell = ["chroot", str(root), "/bin/sh", "-c", "cat /www/index.html; echo x > /new"]
        assert await asyncio.to_thread(subprocess.check_output, shell) == b"<h1>hi</h1>"
    assert (Path(rootfs.base) / rootfs.upper / "new").read_text() == "x\n"
    used = store.snapshots.usage("c1")
    assert used is not None
    assert used[1] >= 2
    store.snapshots.remove("c1")
    store.snapshots.remove("c1")
    await store.remove(image.id)
    await assert_empty(store)


async def test_image_pushed_by_skopeo(
    registry: DockerRegistry, store: ImageStore, tmp_path: Path
) -> None:
    for program in ("skopeo", "umoci"):
        assert shutil.which(program), f"{program} is missing: apt-get install {program}"
    layout, bundle = tmp_path / "oci", tmp_path / "bundle"
    for command in (
        f"umoci init --layout {layout}",
        f"umoci new --image {layout}:v1",
        f"umoci unpack --image {layout}:v1 {bundle}",
        f"cp /bin/busybox {bundle}/rootfs/sh",
        f"ln {bundle}/rootfs/sh {bundle}/rootfs/hard",
        f"umoci repack --image {layout}:v1 {bundle}",
        f"rm {bundle}/rootfs/hard",
        f"umoci repack --image {layout}:v1 --refresh-bundle {bundle}",
        f"skopeo copy --dest-tls-verify=false --format v2s2 oci:{layout}:v1 "
        f"docker://{registry.host}/peer:v1",
    ):
        await asyncio.to_thread(subprocess.check_output, command.split())
    image = await store.pull(f"{registry.host}/peer:v1")
    assert (
        store.snapshots.read_image_file(image, "sh", 1 << 23) == Path("/bin/busybox").read_bytes()
    )
    with ExitStack() as resources:
        root = mounted(store.snapshots.prepare("c", image), tmp_path / "mnt", resources)
        assert os.path.exists(root / "sh")


async def test_names_of_one_image(registry: DockerRegistry, store: ImageStore) -> None:
    built = build_image({"names": b""})
    digest = push(built, registry.host, "names", "v1")
    push(built, registry.host, "names", "v2")
    base = f"{registry.host}/names"
    first = await store.pull(f"{base}:v1")
    second = await store.pull(f"{base}:v2")
    third = await store.pull(f"{base}@{digest}")
    assert first.repo_tags == (f"{base}:v1",)
    assert second.repo_tags == third.repo_tags == (f"{base}:v1", f"{base}:v2")
    assert third.repo_digests == (f"{base}@{digest}",)
    short = built.id.removeprefix("sha256:")[:12]
    for name in (f"{base}:v1", f"{base}@{digest}", f"{base}:any@{digest}", built.id, short,
                 f"sha256:{short}", built.id.removeprefix("sha256:")):  # fmt: skip
        assert store.get(name) == third, name
    for name in (f"{base}:v3", base, "", "zz", "sha256:", "*", "../x", built.id + "0"):
        assert store.get(name) is None, name
    await store.remove(f"{base}:v1")
    found = store.get(built.id)
    assert found is not None
    assert found.repo_tags == (f"{base}:v2",)
    await store.remove(built.id)
    await store.remove(built.id)
    await assert_empty(store)


async def test_the_last_tag_takes_the_image_along(
    registry: DockerRegistry, store: ImageStore
) -> None:
    digest = push(build_image({"last": b""}), registry.host, "last", "v1")
    await store.pull(f"{registry.host}/last:v1")
    await store.remove(f"{registry.host}/last:v1")
    await assert_empty(store)
    await store.pull(f"{registry.host}/last@{digest}")
    await store.remove(f"{registry.host}/last@{digest}")
    await assert_empty(store)


async def test_a_tag_that_moves(registry: DockerRegistry, store: ImageStore) -> None:
    old, new = build_image({"a": b"old"}), build_image({"a": b"new"})
    name = f"{registry.host}/moves:v1"
    push(old, registry.host, "moves", "v1")
    await store.pull(name)
    push(new, registry.host, "moves", "v1")
    await store.pull(name)
    found, before = store.get(name), store.get(old.id)
    assert found is not None
    assert found.id == new.id
    assert before is not None
    assert before.repo_tags == ()
    assert len(store.list()) == 2


async def test_ambiguous_prefixes_name_nothing(registry: DockerRegistry, store: ImageStore) -> None:
    # 20 images: the ids of two begin with the same digit.
    first_digits: dict[str, str] = {}
    for n in range(20):
        built = build_image(None, config={"Cmd": [str(n)]})
        digit = built.id[7:8]
        if digit in first_digits:
            break
        first_digits[digit] = built.id
        push(built, registry.host, f"prefix{n}", "v1")
        await store.pull(f"{registry.host}/prefix{n}:v1")
    push(built, registry.host, "prefix", "v1")
    await store.pull(f"{registry.host}/prefix:v1")
    assert store.metadata.images_with_prefix("sha256:" + digit) == sorted(
        [built.id, first_digits[digit]]
    )
    assert store.get(f"sha256:{digit}") is None
    assert store.get(built.id) is not None


async def test_layers_are_shared_and_freed_when_the_last_user_goes(
    registry: DockerRegistry, store: ImageStore
) -> None:
    base: dict[str, Entry] = {"base": os.urandom(100_000)}
    one = build_image({"one": b"1"}, layers=[base])
    two = build_image({"two": b"2"}, layers=[base])
    for name, image in (("one", one), ("two", two)):
        push(image, registry.host, name, "v1")
    first = await store.pull(f"{registry.host}/one:v1")
    second = await store.pull(f"{registry.host}/two:v1")
    assert first.chain[0] == second.chain[0]
    assert len(directories(store)) == 3
    container = store.snapshots.prepare("c", first)
    await store.remove(first.id)
    # The container still stands on the layers of the image that is gone.
    for lower in container.lower:
        assert (Path(container.base) / lower).is_dir()
    await store.remove(second.id)
    assert len(directories(store)) == 3
    store.snapshots.remove("c")
    await assert_empty(store)


async def test_images_in_use_stay(registry: DockerRegistry, tmp_path: Path) -> None:
    built = build_image({"used": b""})
    push(built, registry.host, "used", "v1")
    store = ImageStore(tmp_path / "r", QUICK, in_use=lambda identifier: identifier == built.id)
    await store.open()
    try:
        image = await store.pull(f"{registry.host}/used:v1")
        with pytest.raises(ImageInUse, match="used by a container"):
            await store.remove(image.id)
        assert store.get(image.id) == image
    finally:
        await store.close()


async def test_pulls_at_the_same_time_share_the_work(
    hostile: ScriptedRegistry, store: ImageStore
) -> None:
    built = build_image({"top": b"t"}, layers=[{"base": os.urandom(50_000)}])
    hostile.add(built, "shared", "v1")
    name = f"{hostile.host}/shared:v1"
    images = await asyncio.gather(*(store.pull(name) for _ in range(8)))
    assert len(set(images)) == 1
    blobs = [path for path in hostile.paths() if "/blobs/" in path]
    layers = [f"/v2/shared/blobs/{d}" for d in built.blobs if d != built.id]
    assert sorted(path for path in blobs if path in layers) == sorted(layers)
    assert len(directories(store)) == 2


async def test_a_cancelled_pull_leaves_the_other_one_alone(
    hostile: ScriptedRegistry, store: ImageStore
) -> None:
    built = build_image({"f": os.urandom(3_000_000)})
    hostile.add(built, "slow", "v1")
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def script(request: web.Request) -> None:
        if "/blobs/" in request.path and built.id not in request.path:
            asked.set()
            await go_on.wait()

    hostile.script = script
    name = f"{hostile.host}/slow:v1"
    first = asyncio.create_task(store.pull(name))
    await asked.wait()
    second = asyncio.create_task(store.pull(name))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    go_on.set()
    assert (await second).id == built.id
    await store.remove(built.id)
    await assert_empty(store)


async def test_a_cancelled_pull_leaves_nothing(
    hostile: ScriptedRegistry, store: ImageStore
) -> None:
    files = {f"f{n}": os.urandom(200_000) for n in range(40)}
    hostile.add(build_image(files, compression="none"), "big", "v1")
    unpacking = asyncio.Event()
    pull = asyncio.create_task(
        store.pull(
            f"{hostile.host}/big:v1",
            progress=lambda step: unpacking.set() if step.stage == "unpacking" else None,
        )
    )
    await unpacking.wait()
    pull.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pull
    await assert_empty(store)


async def test_a_restart_finds_everything_and_removes_leftovers(
    registry: DockerRegistry, store: ImageStore
) -> None:
    built = busybox_image({"etc/motd": b"hello"})
    push(built, registry.host, "restart", "v1")
    image = await store.pull(f"{registry.host}/restart:v1")
    rootfs = store.snapshots.prepare("c", image)
    unfinished = store.snapshots.begin_layer("sha256:" + "0" * 64)
    (store.snapshots.path(unfinished) / "half").write_text("done")
    (store.root / "snapshots/999").mkdir()
    (store.root / "content/ingest/x").write_text("half")
    before = store.filesystem_usage()
    await store.close()

    again = ImageStore(store.root, QUICK)
    await again.open()
    try:
        assert again.list() == [image]
        assert again.snapshots.rootfs("c") == again.snapshots.prepare("c", image) == rootfs
        assert len(directories(again)) == 3
        assert again.filesystem_usage() == before
        assert os.listdir(again.root / "content/ingest") == []
        assert again.snapshots.reconcile({"other"}) == ["c"]
        assert again.snapshots.rootfs("c") is None
        for path in (again.root, again.root / "content", again.root / "snapshots"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700
    finally:
        await again.close()


async def test_a_layer_lost_on_the_disk_is_pulled_again(
    registry: DockerRegistry, store: ImageStore
) -> None:
    push(build_image({"lost": b"here"}), registry.host, "lost", "v1")
    name = f"{registry.host}/lost:v1"
    image = await store.pull(name)
    number = store.snapshots.layers()[0].number
    await store.close()
    shutil.rmtree(store.snapshots.base / str(number))
    again = ImageStore(store.root, QUICK)
    await again.open()
    try:
        assert again.get(image.id) is None
        found = await again.pull(name)
        assert again.snapshots.read_image_file(found, "lost", 10) == b"here"
    finally:
        await again.close()


async def test_a_database_of_a_later_version(store: ImageStore) -> None:
    with store.metadata.transaction() as database:
        database.execute("PRAGMA user_version = 99")
    await store.close()
    again = ImageStore(store.root, QUICK)
    with pytest.raises(StoreError, match="version 99"):
        await again.open()


async def test_index_with_platforms(registry: DockerRegistry, store: ImageStore) -> None:
    images = {name: build_image({"arch": name}, architecture=name) for name in ("amd64", "arm64")}
    for name, image in images.items():
        push(image, registry.host, "multi", name)
    entries = [
        descriptor(image.media_type, image.manifest, platform={"os": "linux", "architecture": name})
        for name, image in images.items()
    ]
    index = dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})
    digest = push_manifest(registry.host, "multi", index, OCI_INDEX, "v1")
    pulled = await store.pull(f"{registry.host}/multi:v1")
    wanted = images[store.config.platform.architecture]
    assert pulled.id == wanted.id
    # The name is that of the index, as peers have it: it is the same on every machine.
    assert pulled.repo_digests == (f"{registry.host}/multi@{digest}",)
    other = next(i for i in images.values() if i is not wanted)
    with pytest.raises(NoMatchingPlatform):
        await store.pull(f"{registry.host}/multi@{other.digest}")


async def test_mirrors_are_asked_first_and_need_not_work(
    hostile: ScriptedRegistry, tmp_path: Path
) -> None:
    built = build_image({"m": b""})
    async with ScriptedRegistry() as mirror, ScriptedRegistry() as broken:
        mirror.add(built, "app", "v1")
        config = RegistryConfig(
            attempts=1,
            registries={hostile.host: RegistrySettings(mirrors=(broken.host, mirror.host))},
        )
        store = ImageStore(tmp_path / "r", config)
        await store.open()
        try:
            image = await store.pull(f"{hostile.host}/app:v1")
        finally:
            await store.close()
        assert image.repo_tags == (f"{hostile.host}/app:v1",)
        assert hostile.seen == []
        assert len(broken.seen) == 1
