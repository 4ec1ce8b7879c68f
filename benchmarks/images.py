"""The images that are run and pulled, the same for every runtime."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from tests.support.ociimage import (
    OCI_LAYER,
    Directory,
    Entry,
    File,
    OciImage,
    assemble,
    busybox_image,
    digest_of,
    dumps,
    push,
    tar_layer,
)

LARGE_BYTES: Final = 150_000_000
LARGE_FILES: Final = 10_000
LARGE_LAYERS: Final = 5
_LETTERS: Final = b"etaoinshrdlucmfwypvbgkjqxz_0123456789"


def workload() -> OciImage:
    """Return an image whose shell ends at SIGTERM at once."""
    return busybox_image()


def pause() -> OciImage:
    """Return what the peer runs in each sandbox; ours needs none."""
    return busybox_image(config={"Cmd": ["/bin/sleep", "1000000"]})


def large(size: int = LARGE_BYTES, files: int = LARGE_FILES) -> OciImage:
    """Return an image like those of distributions: many small files, few large ones.

    Five layers, packed by gzip to 40 %; sizes are log-normal. It is the same in every run.
    """
    tars = list(_layers(size, files))
    with ThreadPoolExecutor() as pool:
        blobs = list(pool.map(lambda tar: gzip.compress(tar, 6, mtime=0), tars))
    config = {
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(tar) for tar in tars]},
    }  # fmt: skip
    return assemble(dumps(config), blobs, layer_type=f"{OCI_LAYER}+gzip")


def push_all(host: str, *, with_large: tuple[int, int] | None) -> None:
    """Push the images to the registry at ``host``: bench/main, bench/pause, bench/large."""
    push(workload(), host, "bench/main", "1")
    push(pause(), host, "bench/pause", "1")
    if with_large is not None:
        push(large(*with_large), host, "bench/large", "1")


def _layers(size: int, files: int) -> Iterator[bytes]:
    dice = random.Random(1)
    text, noise = _text(dice), dice.randbytes(1 << 20)
    sizes = [dice.lognormvariate(0, 1.6) for _ in range(files)]
    scale = size / sum(sizes)
    per_layer = -(-files // LARGE_LAYERS)
    for first in range(0, files, per_layer):
        entries: dict[str, Entry] = {}
        for number in range(first, min(first + per_layer, files)):
            directory = f"usr/share/part{first // per_layer}/dir{number // 25:04}"
            entries.setdefault(directory.rpartition("/")[0], Directory())
            entries.setdefault(directory, Directory())
            data = _content(dice, int(sizes[number] * scale), text, noise)
            mode = 0o755 if number % 9 == 0 else 0o644
            entries[f"{directory}/file{number}"] = File(data, mode=mode)
        yield tar_layer(entries)


def _text(dice: random.Random) -> bytes:
    words = [bytes(dice.choices(_LETTERS, k=dice.randint(2, 9))) + b" " for _ in range(3000)]
    phrases = [b"".join(dice.choices(words, k=dice.randint(2, 9))) for _ in range(1200)]
    return b"".join(dice.choice(phrases if dice.random() < 0.6 else words) for _ in range(120_000))


def _content(dice: random.Random, size: int, text: bytes, noise: bytes) -> bytes:
    parts = []
    while size > 0:
        length = min(size, 8192)
        source = text if dice.random() < 0.88 else noise
        at = dice.randrange(len(source) - length)
        parts.append(source[at : at + length])
        size -= length
    return b"".join(parts)
