"""What the image database remembers of its answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.images.config import parse_config
from runtime.images.image import Image
from runtime.images.metadata import Metadata

CONFIG = json.dumps(
    {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
).encode()


@pytest.fixture
def metadata(tmp_path: Path) -> Iterator[Metadata]:
    made = Metadata(tmp_path / "images.db")
    yield made
    made.close()


def save(metadata: Metadata, name: str, *tags: str) -> str:
    identifier = "sha256:" + hashlib.sha256(name.encode()).hexdigest()
    image = Image(
        id=identifier, repo_tags=(), repo_digests=(), size=1,
        config=parse_config(CONFIG, identifier), chain=(), pinned=False,
    )  # fmt: skip
    metadata.save_image(image, CONFIG, [], tags=tags, digests=[])
    return identifier


def known(metadata: Metadata, identifier: str, tag: str) -> tuple[tuple[str, ...] | None, bool]:
    image = metadata.image(identifier)
    tags = None if image is None else image.repo_tags
    assert metadata.images_with_prefix(identifier[:20]) == ([] if image is None else [identifier])
    return tags, metadata.image_named(tag) == identifier


def test_what_was_looked_up_follows_each_change(metadata: Metadata) -> None:
    first = save(metadata, "first")
    assert known(metadata, first, "a/b:1") == ((), False)
    save(metadata, "first", "a/b:1", "a/b:2")
    assert known(metadata, first, "a/b:1") == (("a/b:1", "a/b:2"), True)
    second = save(metadata, "second", "a/b:1")
    assert known(metadata, first, "a/b:1") == (("a/b:2",), False)
    assert known(metadata, second, "a/b:1") == (("a/b:1",), True)
    metadata.remove_name("a/b:2")
    assert known(metadata, first, "a/b:2") == (None, False)
    with metadata.transaction() as database:
        database.execute("UPDATE images SET pinned = 1")
    pinned = metadata.image(second)
    assert pinned is not None
    assert pinned.pinned
    metadata.remove_image(second)
    assert known(metadata, second, "a/b:1") == (None, False)


def test_the_same_question_is_asked_once(
    metadata: Metadata, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = save(metadata, "first", "a/b:1")
    known(metadata, first, "a/b:1")
    metadata.new_snapshot("container", "c")
    monkeypatch.setattr(metadata, "_rows", None)
    assert known(metadata, first, "a/b:1") == (("a/b:1",), True)


def test_an_answer_is_the_callers_own(metadata: Metadata) -> None:
    first = save(metadata, "first")
    metadata.images_with_prefix("sha256:").clear()
    assert metadata.images_with_prefix("sha256:") == [first]
