"""Imports that are cut off: by the client, by the death of the daemon."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import grpc
import pytest

from kubeletpy_proto import cri_pb2 as cri
from kubeletpy_proto import images_pb2 as pb
from kubeletpy_proto import images_pb2_grpc as services
from tests.root.runtime.cri.node import Node, wait_until
from tests.support.archives import oci_entries, tar_of
from tests.support.circumstances import patient
from tests.support.ociimage import build_image

pytestmark = pytest.mark.root

NAME = "example.org/tests/cut"
IMAGE = build_image(layers=[{"one": b"1" * 3_000_000}, {"two": b"2"}], compression="none")
ARCHIVE = tar_of(oci_entries(IMAGE))
CHUNK = 1 << 16


class Client:
    """Sends a part of the archive and then waits."""

    def __init__(self, node: Node, size: int) -> None:
        self._size = size
        self._go_on = threading.Event()
        self._channel = grpc.insecure_channel(f"unix://{node.place.socket}")
        self.call = services.ImageTransferStub(self._channel).Import(
            self._requests(), timeout=patient(60)
        )

    def _requests(self) -> Iterator[pb.ImportRequest]:
        yield pb.ImportRequest(options=pb.ImportOptions(name=NAME))
        for start in range(0, self._size, CHUNK):
            yield pb.ImportRequest(chunk=ARCHIVE[start : min(start + CHUNK, self._size)])
        self._go_on.wait(patient(60))
        for start in range(self._size, len(ARCHIVE), CHUNK):
            yield pb.ImportRequest(chunk=ARCHIVE[start : start + CHUNK])

    def wait_received(self, size: int) -> None:
        """Return once the daemon has told of so many bytes of one file."""
        for response in self.call:
            if any(report.done >= size for report in response.progress):
                return
        raise AssertionError("the import ended")

    def result(self) -> pb.ImportResult:
        self._go_on.set()
        *_, last = self.call
        return last.result

    def close(self) -> None:
        self.call.cancel()
        self._go_on.set()
        self._channel.close()


def files(node: Node, directory: str) -> set[str]:
    return {str(path) for path in (node.place.root / directory).rglob("*") if path.is_file()}


@pytest.fixture
def before(node: Node) -> tuple[set[str], set[str]]:
    return files(node, "content/blobs"), files(node, "content/ingest")


def known(node: Node) -> list[str]:
    request = cri.ListImagesRequest()
    return [image.id for image in node.images.ListImages(request, timeout=patient(60)).images]


def test_a_client_that_leaves(node: Node, before: tuple[set[str], set[str]]) -> None:
    client = Client(node, 2_000_000)
    client.wait_received(1_000_000)
    assert files(node, "content/ingest") != before[1]
    client.close()

    def clean() -> bool:
        return (files(node, "content/blobs"), files(node, "content/ingest")) == before

    wait_until(clean, "what had arrived to go", 20)
    assert IMAGE.id not in known(node)


def test_an_archive_that_ends_early(node: Node, before: tuple[set[str], set[str]]) -> None:
    requests = [
        pb.ImportRequest(options=pb.ImportOptions()),
        pb.ImportRequest(chunk=ARCHIVE[:9999]),
    ]
    with grpc.insecure_channel(f"unix://{node.place.socket}") as channel:
        with pytest.raises(grpc.RpcError, match="malformed-image") as caught:
            list(services.ImageTransferStub(channel).Import(iter(requests), timeout=patient(60)))
        assert isinstance(caught.value, grpc.Call)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert (files(node, "content/blobs"), files(node, "content/ingest")) == before


def test_removals_meanwhile_take_nothing_from_an_import(node: Node) -> None:
    other = node.push("tests/removed", {"x": b"x"})
    node.pull(other)
    # Everything but the index is here, and no image refers to it yet.
    client = Client(node, ARCHIVE.rindex(b"index.json"))
    client.wait_received(3_000_000)
    request = cri.RemoveImageRequest(image=cri.ImageSpec(image=other))
    node.images.RemoveImage(request, timeout=patient(60))
    assert [image.id for image in client.result().images] == [IMAGE.id]
    client.close()
    assert IMAGE.id in known(node)
    request = cri.RemoveImageRequest(image=cri.ImageSpec(image=IMAGE.id))
    node.images.RemoveImage(request, timeout=patient(60))


def test_the_daemon_dies_amidst(node: Node, before: tuple[set[str], set[str]]) -> None:
    client = Client(node, 2_000_000)
    client.wait_received(1_000_000)
    node.restart()
    client.close()
    assert (files(node, "content/blobs"), files(node, "content/ingest")) == before
    assert IMAGE.id not in known(node)
    again = Client(node, len(ARCHIVE))
    assert [image.id for image in again.result().images] == [IMAGE.id]
    again.close()
    request = cri.RemoveImageRequest(image=cri.ImageSpec(image=IMAGE.id))
    node.images.RemoveImage(request, timeout=patient(60))
