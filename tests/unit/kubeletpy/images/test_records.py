"""Which pods may use an image that is here already."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kubeletpy.images.keyring import Credential, Source
from kubeletpy.images.records import ALWAYS, LISTED, MOST_SECRETS, NEVER, PRELOADED, PullRecords
from kubeletpy_proto import cri_pb2

IMAGE, ID = "registry.example/web:1", "sha256:1"


def credential(name: str = "s", password: str = "p", kind: str = "Secret") -> Credential:
    return Credential("me", password, Source(kind, f"uid-{name}", "ns", name))


def pulled(root: Path, *by: Credential | None, policy: str = PRELOADED) -> PullRecords:
    records = PullRecords(root, policy)
    for one in by:
        records.begin(IMAGE)
        records.succeeded(IMAGE, ID, one)
    return records


def record_of(root: Path) -> Any:
    (file,) = (root / "image_manager" / "pulled").iterdir()
    return json.loads(file.read_bytes())


@pytest.mark.parametrize(
    ("policy", "allowed", "preloaded", "after_pull"),
    [
        (NEVER, [], True, True),
        (PRELOADED, [], True, None),
        (LISTED, [], False, None),
        (LISTED, ["registry.example/web"], True, True),
        (LISTED, ["registry.example/*"], True, True),
        (LISTED, ["registry.example/we"], False, None),
        (ALWAYS, [], False, None),
    ],
)
def test_policies(
    tmp_path: Path, policy: str, allowed: list[str], preloaded: bool, after_pull: bool | None
) -> None:
    records = PullRecords(tmp_path, policy, allowed)
    assert records.usable(IMAGE, ID) is preloaded
    records.begin(IMAGE)
    records.succeeded(IMAGE, ID, credential())
    assert records.usable(IMAGE, ID) is after_pull


def test_what_was_pulled_without_credentials_is_for_all(tmp_path: Path) -> None:
    records = pulled(tmp_path, credential(), None, credential("other"))
    assert records.usable(IMAGE, ID) is True
    assert record_of(tmp_path)["credentialMapping"] == {
        "registry.example/web": {"nodePodsAccessible": True}
    }
    # Under another name it is another image.
    assert records.usable("registry.example/other:1", ID) is False


@pytest.mark.parametrize(
    ("one", "fits"),
    [
        (credential(), True),
        (credential("s", "new"), True),
        (credential("other"), True),
        (credential("other", "new"), False),
        (Credential("me", "p"), False),
        (credential(kind="ServiceAccount"), False),
    ],
)
def test_secrets(tmp_path: Path, one: Credential, fits: bool) -> None:
    records = pulled(tmp_path, credential())
    assert records.usable(IMAGE, ID) is None
    assert records.fits(IMAGE, ID, [one]) is fits
    assert records.fits(IMAGE, ID, [credential("x", "y"), one]) is fits
    # What was found to be as good is written down, the new password of a secret in place.
    secrets = record_of(tmp_path)["credentialMapping"]["registry.example/web"]["kubernetesSecrets"]
    known = {(entry["name"], entry["credentialHash"]) for entry in secrets}
    assert ((one.source and one.source.name), one.hash) in known or not fits


def test_service_accounts(tmp_path: Path) -> None:
    records = pulled(tmp_path, credential(kind="ServiceAccount"))
    assert records.usable(IMAGE, ID) is None
    assert records.fits(IMAGE, ID, [credential(kind="ServiceAccount", password="other")])
    assert not records.fits(IMAGE, ID, [credential("x", kind="ServiceAccount")])


def test_not_more_secrets_are_written_down_than_are_read(tmp_path: Path) -> None:
    records = pulled(tmp_path, credential())
    for number in range(MOST_SECRETS + 10):
        assert records.fits(IMAGE, ID, [credential(f"s{number}")])
    entry = record_of(tmp_path)["credentialMapping"]["registry.example/web"]
    assert len(entry["kubernetesSecrets"]) == MOST_SECRETS


def test_the_format_is_the_go_kubelets(tmp_path: Path) -> None:
    pulled(tmp_path, credential())
    record = record_of(tmp_path)
    datetime.fromisoformat(record.pop("lastUpdatedTime"))
    assert record == {
        "kind": "ImagePulledRecord",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "imageRef": ID,
        "credentialMapping": {
            "registry.example/web": {
                "kubernetesSecrets": [
                    {
                        "uid": "uid-s", "namespace": "ns", "name": "s",
                        "credentialHash": credential().hash,
                    }
                ]
            }
        },
    }  # fmt: skip


def pulling(root: Path) -> list[str]:
    files = sorted((root / "image_manager" / "pulling").iterdir())
    return [json.loads(file.read_bytes())["image"] for file in files]


def test_a_pull_that_did_not_come_leaves_nothing(tmp_path: Path) -> None:
    records = PullRecords(tmp_path)
    records.begin(IMAGE)
    records.begin(IMAGE)
    assert pulling(tmp_path) == [IMAGE]
    assert records.usable(IMAGE, ID) is False
    records.failed(IMAGE)
    assert pulling(tmp_path) == [IMAGE]
    records.failed(IMAGE)
    assert pulling(tmp_path) == []
    assert records.usable(IMAGE, ID) is True


def test_a_pull_that_outlived_its_kubelet_counts_as_pulled(tmp_path: Path) -> None:
    PullRecords(tmp_path, PRELOADED).begin(IMAGE)
    PullRecords(tmp_path, PRELOADED).begin("registry.example/never:1")
    records = PullRecords(tmp_path, PRELOADED)
    records.adopt([cri_pb2.Image(id=ID, repo_tags=["x:1", IMAGE]), cri_pb2.Image(id="sha256:2")])
    assert pulling(tmp_path) == ["registry.example/never:1"]
    assert records.usable(IMAGE, ID) is False
    assert records.usable("x:1", "sha256:2") is True


def test_records_of_images_that_are_gone_are_removed(tmp_path: Path) -> None:
    records = pulled(tmp_path, credential())
    later = datetime.now(UTC) + timedelta(minutes=1)
    records.prune([ID], later)
    records.prune([], later - timedelta(hours=1))
    assert record_of(tmp_path)
    records.prune([], later)
    assert list((tmp_path / "image_manager" / "pulled").iterdir()) == []


def test_a_record_that_cannot_be_read_is_set_aside(tmp_path: Path) -> None:
    records = pulled(tmp_path, None)
    (file,) = (tmp_path / "image_manager" / "pulled").iterdir()
    file.write_bytes(b"{")
    assert records.usable(IMAGE, ID) is True  # nobody knows any more that it was pulled
    assert file.with_name(f"{file.name}.corrupt").exists()
    records.prune([], datetime.now(UTC))
