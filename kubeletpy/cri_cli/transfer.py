"""``kubeletpy image import`` and ``export``: images as archives, by our runtime's own service."""

from __future__ import annotations

import os
import secrets
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import RawIOBase
from pathlib import Path
from typing import IO, Any, Final, cast

import click
import grpc

from kubeletpy.cri_cli import text
from kubeletpy.cri_cli.connection import Connection, RuntimeFailure, failure, runtime_options
from kubeletpy.cri_cli.layout_files import LayoutError, extract, files_of, tar_of
from kubeletpy.cri_cli.output import output_option, plain, printable, show
from kubeletpy.cri_cli.progress import Bars
from kubeletpy_proto import images_pb2 as pb

TRANSFER_SECONDS: Final = 24 * 3600.0
"""For a whole transfer; the runtime gives up much earlier on one that does not move."""

_CHUNK: Final = 1 << 20
_FORMATS: Final = {"oci-archive": pb.OCI_ARCHIVE, "docker-archive": pb.DOCKER_ARCHIVE}


def lacking(connection: Connection, what: str, instead: str) -> RuntimeFailure:
    """Return the line for a runtime that does not have our service."""
    return RuntimeFailure(
        f"{what} ({connection.endpoint}): CRI has no call for it, and this runtime does not offer "
        f"the service kubeletpy.images.v1 of `kubeletpy runtime`; {instead}"
    )


@contextmanager
def transfer_errors(connection: Connection, what: str, instead: str) -> Iterator[None]:
    """Turn a failed call into one line.

    Raises:
        RuntimeFailure: the call failed.
    """
    try:
        yield
    except grpc.RpcError as error:
        if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.UNIMPLEMENTED:
            raise lacking(connection, what, instead) from error
        raise failure(what, connection.endpoint, error) from error


def names_of(image: pb.Image) -> str:
    """Return an image's names for a person; its id alone if it has none (pure)."""
    names = ", ".join(image.tags) or ", ".join(image.digests) or "<none>"
    return printable(f"{text.short(image.id)}  {names}")


# Import.


class _Outgoing:
    """The requests of an import; a failure to read is kept, since gRPC hides it."""

    def __init__(self, options: pb.ImportOptions, chunks: Iterable[bytes], bars: Bars) -> None:
        self._options = options
        self._chunks = chunks
        self._bars = bars
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[pb.ImportRequest]:
        yield pb.ImportRequest(options=self._options)
        try:
            for chunk in self._chunks:
                yield pb.ImportRequest(chunk=chunk)
                self._bars.advance(len(chunk))
        except (OSError, LayoutError) as error:
            self.error = error
            raise


def _opened(source: str) -> tuple[Iterator[bytes], int | None]:
    """Return the chunks of a file, a layout's directory, or stdin, and how many bytes they have."""
    if source == "-":
        if sys.stdin.isatty():
            raise click.UsageError("- means stdin, which is a terminal: pipe an archive into it")
        return _chunks(sys.stdin.buffer), None
    path = Path(source)
    if path.is_dir():
        files = files_of(path)
        return tar_of(path, files), sum(size for _, size in files)
    file = open(path, "rb")  # noqa: SIM115 - closed by _chunks
    status = os.fstat(file.fileno())
    return _chunks(file), status.st_size if stat.S_ISREG(status.st_mode) else None


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK):
            yield chunk


@click.command("import")
@click.argument("source", type=click.Path(allow_dash=True), metavar="SOURCE")
@click.option("--name", default="", help="Repository name for images that the archive gives none.")
@click.option("--tag", default="", help="Tag for them [default: the archive's, or latest].")
@click.option(
    "--platform",
    default="",
    metavar="OS/ARCH[/VARIANT]",
    help="Of images for several platforms, the one to take [default: this machine's].",
)
@click.option("--all-platforms", is_flag=True,
              help="Keep the other platforms' blobs, too, for a later export.")  # fmt: skip
@output_option("table", "json", "yaml")
@runtime_options
def import_images(
    connection: Connection, source: str, name: str, tag: str, platform: str, all_platforms: bool,
    output: str,
) -> None:  # fmt: skip
    """Take the images of an archive into the runtime, and print their ids and names.

    SOURCE is a tar of an OCI image layout, what `docker save` or `podman save` wrote (compressed by
    gzip or zstd, or not), the directory of an OCI image layout, or - for an archive on stdin. All
    of it is checked; the runtime gets all images of it or none.

    \b
    kubeletpy image import web.tar
    kubeletpy image import --name registry.example/web --tag v1 layout/
    docker save web:v1 | kubeletpy image import -
    """
    if tag and not name:
        raise click.UsageError("--tag goes with --name: a tag alone is no name")
    options = pb.ImportOptions(name=name, tag=tag, platform=platform, all_platforms=all_platforms)
    what = f"import {source}"
    try:
        chunks, total = _opened(source)
    except (OSError, LayoutError) as error:
        raise click.ClickException(f"{what}: {error}") from error
    result = pb.ImportResult()
    with Bars(f"Importing {source}", total) as bars:
        outgoing = _Outgoing(options, chunks, bars)
        with transfer_errors(connection, what, "use its own tool, such as `ctr images import`"):
            try:
                for response in connection.transfer.Import(
                    iter(outgoing), timeout=TRANSFER_SECONDS
                ):
                    bars.show(response.progress)
                    if response.HasField("result"):
                        result = response.result
            except grpc.RpcError:
                if outgoing.error is not None:
                    raise click.ClickException(f"{what}: {outgoing.error}") from outgoing.error
                raise
    for line in result.skipped:
        click.echo(f"left out: {printable(line)}", err=True)
    if output != "table":
        show(plain(result), output)
    else:
        for image in result.images:
            click.echo(names_of(image))


# Export.


class _Incoming(RawIOBase):
    """The chunks of an export as a file; counts them for the bar."""

    def __init__(self, responses: Iterable[pb.ExportResponse], bars: Bars) -> None:
        self._responses = iter(responses)
        self._bars = bars
        self._left = b""
        self.plan = pb.ExportPlan()

    def readable(self) -> bool:
        """Tell that it is."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read some bytes."""
        while not self._left:
            response = next(self._responses, None)
            if response is None:
                return 0
            if response.HasField("plan"):
                self.plan = response.plan
                self._bars.resize(response.plan.bytes)
            self._left = response.chunk
        view = memoryview(buffer)
        count = min(len(view), len(self._left))
        view[:count], self._left = self._left[:count], self._left[count:]
        self._bars.advance(count)
        return count

    def chunks(self) -> Iterator[bytes]:
        """Yield all bytes."""
        for response in self._responses:
            if response.HasField("plan"):
                self.plan = response.plan
                self._bars.resize(response.plan.bytes)
            else:
                self._bars.advance(len(response.chunk))
                yield response.chunk


@contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that gets its name only if the block succeeds."""
    if path.exists() and not path.is_file():
        raise click.ClickException(f"{path} is there already, and not a file")
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with open(partial, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.rename(path)
    except OSError as error:
        raise click.ClickException(f"write {path}: {error}") from error
    finally:
        with suppress(FileNotFoundError):
            partial.unlink()


def _form(given: str | None, destination: str) -> str:
    if given:
        return given
    is_directory = destination.endswith("/") or Path(destination).is_dir()
    return "oci" if is_directory and destination != "-" else "oci-archive"


@click.command("export")
@click.argument("destination", type=click.Path(allow_dash=True))
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--format", "form", type=click.Choice(["oci-archive", "docker-archive", "oci"]),
              help="A tar of an OCI image layout [default], what `docker save` writes, or the "
              "layout in a directory [default if DESTINATION is one].")  # fmt: skip
@click.option("--platform", default="", metavar="OS/ARCH[/VARIANT]",
              help="Another platform than the one that is unpacked, if it is here.")  # fmt: skip
@click.option("--all-platforms", is_flag=True, help="All platforms that are here.")
@output_option("table", "json", "yaml")
@runtime_options
def export_images(
    connection: Connection, destination: str, images: tuple[str, ...], form: str | None,
    platform: str, all_platforms: bool, output: str,
) -> None:  # fmt: skip
    """Write images to DESTINATION: a file, a directory, or - for stdout.

    An IMAGE is a reference or an id; one by id takes all its tags along. Every byte is checked
    against its digest; on failure nothing is left at DESTINATION.

    \b
    kubeletpy image export web.tar registry.example/web:v1
    kubeletpy image export --format docker-archive - web:v1 | docker load
    kubeletpy image export layout/ web:v1 && skopeo inspect oci:layout:v1
    """
    form = _form(form, destination)
    if destination == "-" and (form == "oci" or sys.stdout.isatty()):
        raise click.UsageError("- means stdout: it takes an archive, and is no terminal")
    request = pb.ExportRequest(
        images=images,
        format=_FORMATS.get(form, pb.OCI_ARCHIVE),
        platform=platform,
        all_platforms=all_platforms,
    )
    what = f"export {', '.join(images)}"
    with (
        Bars(f"Exporting to {destination}", None) as bars,
        transfer_errors(connection, what, "use its own tool, such as `ctr images export`"),
    ):
        responses = connection.transfer.Export(request, timeout=TRANSFER_SECONDS)
        incoming = _Incoming(responses, bars)
        try:
            _write(incoming, destination, form)
        finally:
            responses.cancel()
    if output != "table":
        show({"destination": destination, "format": form, **plain(incoming.plan)}, output)
    elif destination != "-":
        for image in incoming.plan.images:
            click.echo(names_of(image))


def _write(incoming: _Incoming, destination: str, form: str) -> None:
    if destination == "-":
        for chunk in incoming.chunks():
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
    elif form == "oci":
        try:
            extract(cast(IO[bytes], incoming), Path(destination))
        except LayoutError as error:
            raise click.ClickException(str(error)) from error
    else:
        with _new_file(Path(destination)) as file:
            for chunk in incoming.chunks():
                file.write(chunk)
