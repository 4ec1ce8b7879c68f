"""The group ``kubeletpy image``: images of a runtime."""

from __future__ import annotations

from collections.abc import Iterable

import click
import grpc
from rich.console import Console

from kubeletpy.cri_cli import lists, text
from kubeletpy.cri_cli.connection import Connection, failure, group_options, runtime_options
from kubeletpy.cri_cli.output import output_option, plain, show, table
from kubeletpy.cri_cli.progress import Bars
from kubeletpy.cri_cli.transfer import TRANSFER_SECONDS, export_images, import_images, names_of
from kubeletpy_proto import cri_pb2 as cri
from kubeletpy_proto import images_pb2 as pb

_PULL_SECONDS = 3600.0


@click.group("image", context_settings={"help_option_names": ["-h", "--help"]})
@group_options
def image_group() -> None:
    """Pull, list, move and remove images of a container runtime.

    \b
    kubeletpy image pull docker.io/library/busybox:1.36
    kubeletpy image ls
    kubeletpy image export busybox.tar busybox:1.36
    kubeletpy image import busybox.tar
    kubeletpy image rm busybox:1.36
    kubeletpy image prune --all      (those that no container uses)
    """


def list_images(name: str) -> click.Command:
    """Return the command that lists images, under ``name``."""

    @click.command(name)
    @click.argument("image", required=False)
    @click.option("-q", "--quiet", is_flag=True, help="Only ids, one a line.")
    @click.option("--digests", is_flag=True, help="Show digests of manifests as well.")
    @output_option("table", "json", "yaml")
    @runtime_options
    def command(
        connection: Connection, image: str | None, quiet: bool, digests: bool, output: str
    ) -> None:
        """List images: all, or the one that IMAGE (a reference or an id) names."""
        request = cri.ListImagesRequest(
            filter=cri.ImageFilter(image=cri.ImageSpec(image=image or ""))
        )
        answer = connection.call("list images", connection.images.ListImages, request)
        images = sorted(answer.images, key=lambda item: list(item.repo_tags) or [item.id])
        if quiet:
            click.echo("".join(f"{item.id}\n" for item in images), nl=False)
        elif output != "table":
            show(plain(cri.ListImagesResponse(images=images)), output)
        else:
            columns = ("IMAGE", "TAG", *(("DIGEST",) if digests else ()), "ID", "SIZE", "PINNED")
            table(columns, [row for item in images for row in image_rows(item, digests=digests)])

    return command


def image_rows(image: cri.Image, *, digests: bool) -> list[tuple[str, ...]]:
    """Return a row for each name of an image; one without a name has one row (pure)."""
    by_name = {ref.partition("@")[0]: ref.partition("@")[2] for ref in image.repo_digests}
    names = [split_tag(tag) for tag in image.repo_tags]
    names = names or [(name, "<none>") for name in by_name] or [("<none>", "<none>")]
    rest = (text.short(image.id), text.size(image.size), "yes" if image.pinned else "")
    return [
        (name, tag, *((by_name.get(name, "<none>"),) if digests else ()), *rest)
        for name, tag in names
    ]


def split_tag(reference: str) -> tuple[str, str]:
    """Split ``host:5000/name:tag``; a colon before the last slash is a port (pure)."""
    name, colon, tag = reference.rpartition(":")
    return (name, tag) if colon and "/" not in tag else (reference, "<none>")


image_group.add_command(list_images("ls"))


@image_group.command("pull")
@click.argument("image")
@click.option("--creds", metavar="USER[:PASSWORD]", envvar="KUBELETPY_CREDS", help="For the "
              "registry [env: KUBELETPY_CREDS]; without a password it is asked for.")  # fmt: skip
@output_option("table", "json", "yaml")
@runtime_options
def pull(connection: Connection, image: str, creds: str | None, output: str) -> None:
    """Fetch IMAGE from its registry, and print the reference by which it can be run.

    A short name is completed as everywhere: busybox is docker.io/library/busybox:latest. Other
    runtimes than ours do not tell how far they are.

    \b
    kubeletpy image pull busybox:1.36
    kubeletpy image pull --creds robot registry.example/web@sha256:...
    """
    user = password = ""
    if creds:
        user, colon, password = creds.partition(":")
        if not colon:
            password = click.prompt(f"Password of {user}", hide_input=True, err=True)
    try:
        pulled = _pull_with_progress(connection, image, user, password)
    except grpc.RpcError as error:
        if not isinstance(error, grpc.Call) or error.code() is not grpc.StatusCode.UNIMPLEMENTED:
            raise failure(f"pull {image}", connection.endpoint, error) from error
        pulled = pb.Image(id=_pull_by_cri(connection, image, user, password))
    if output != "table":
        show(plain(pulled), output)
    else:
        click.echo(pulled.id)


def _pull_with_progress(connection: Connection, image: str, user: str, password: str) -> pb.Image:
    request = pb.PullRequest(image=image)
    if user:
        request.credentials.CopyFrom(pb.Credentials(username=user, password=password))
    pulled = pb.Image()
    with Bars(f"Pulling {image}", None) as bars:
        for response in connection.transfer.Pull(request, timeout=TRANSFER_SECONDS):
            bars.show(response.progress)
            if response.HasField("image"):
                pulled = response.image
    return pulled


def _pull_by_cri(connection: Connection, image: str, user: str, password: str) -> str:
    auth = cri.AuthConfig(username=user, password=password) if user else None
    request = cri.PullImageRequest(
        image=cri.ImageSpec(image=image, user_specified_image=image), auth=auth
    )
    with Console(stderr=True).status(f"Pulling {image} ..."):
        answer = connection.call(
            f"pull {image}", connection.images.PullImage, request, _PULL_SECONDS
        )
    return answer.image_ref


@image_group.command("rm")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@runtime_options
def remove(connection: Connection, images: tuple[str, ...]) -> None:
    """Remove images by reference or id; by id (or its beginning) all names of it go."""
    known = lists.list_images(connection)
    failed = False
    for wanted in images:
        try:
            _remove(connection, known, wanted)
        except click.ClickException as error:
            # The others are removed all the same.
            error.show()
            failed = True
    if failed:
        raise click.exceptions.Exit(1)


def _remove(connection: Connection, known: list[cri.Image], wanted: str) -> None:
    status = connection.call(
        f"look up {wanted}",
        connection.images.ImageStatus,
        cri.ImageStatusRequest(image=cri.ImageSpec(image=wanted)),
    )
    name = wanted
    if not status.HasField("image"):
        begun = with_prefix(known, wanted)
        if len(begun) != 1:
            reason = (
                f"could be {len(begun)} images: give more of the id" if begun else "is not here"
            )
            raise click.ClickException(
                f"image {wanted!r} {reason}; `kubeletpy image ls` lists them"
            )
        name = begun[0].id
    request = cri.RemoveImageRequest(image=cri.ImageSpec(image=name))
    connection.call(f"remove {name}", connection.images.RemoveImage, request)
    click.echo(name)


def with_prefix(images: Iterable[cri.Image], wanted: str) -> list[cri.Image]:
    """Return the images whose id begins with ``wanted``, with or without ``sha256:`` (pure)."""
    prefix = wanted.removeprefix("sha256:")
    if len(prefix) < 4:
        return []
    return [image for image in images if image.id.removeprefix("sha256:").startswith(prefix)]


def unused(
    images: Iterable[cri.Image], containers: Iterable[cri.Container], *, everything: bool
) -> list[cri.Image]:
    """Return the images that no container, running or not, was made of; pinned ones stay (pure).

    Args:
        images: all there are.
        containers: all there are.
        everything: also images with a tag.
    """
    used = {
        name
        for item in containers
        for name in (item.image_id, item.image_ref, item.image.image)
        if name
    }
    return [
        image
        for image in images
        if not image.pinned
        and not used & {image.id, *image.repo_tags, *image.repo_digests}
        and (everything or not image.repo_tags)
    ]


@image_group.command("prune")
@click.option("-a", "--all", "everything", is_flag=True,
              help="Also images with a tag, unless a container uses them.")  # fmt: skip
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@output_option("table", "json", "yaml")
@runtime_options
def prune(
    connection: Connection, everything: bool, force: bool, dry_run: bool, output: str
) -> None:
    """Remove images without a tag that no container uses, and what no image needs; pinned stay.

    \b
    kubeletpy image prune --dry-run --all
    kubeletpy image prune -f
    """
    planned = _prune(connection, everything=everything, dry_run=True)
    if output == "table":
        for image in planned.removed:
            click.echo(f"{names_of(image)}  {text.size(image.size)}", err=True)
        if not planned.removed and not planned.bytes:
            click.echo("There is nothing to remove.", err=True)
            return
    if not dry_run:
        if not force:
            question = f"Remove {len(planned.removed)} images ({text.size(planned.bytes)})?"
            click.confirm(question, abort=True, err=True)
        planned = _prune(connection, everything=everything, dry_run=False)
    if output != "table":
        show(plain(planned), output)
        return
    if not dry_run:
        for image in planned.removed:
            click.echo(image.id)
    click.echo(f"{'Would free' if dry_run else 'Freed'} {text.size(planned.bytes)}.", err=True)


def _prune(connection: Connection, *, everything: bool, dry_run: bool) -> pb.PruneResponse:
    request = pb.PruneRequest(all=everything, dry_run=dry_run)
    try:
        return connection.transfer.Prune(request, timeout=_PULL_SECONDS)
    except grpc.RpcError as error:
        if not isinstance(error, grpc.Call) or error.code() is not grpc.StatusCode.UNIMPLEMENTED:
            raise failure("prune images", connection.endpoint, error) from error
    return _prune_by_cri(connection, everything=everything, dry_run=dry_run)


def _prune_by_cri(connection: Connection, *, everything: bool, dry_run: bool) -> pb.PruneResponse:
    """Do with any runtime what CRI allows: sizes are what it says of images, shared layers too."""
    found = unused(
        lists.list_images(connection), lists.list_containers(connection), everything=everything
    )
    for image in found if not dry_run else ():
        request = cri.RemoveImageRequest(image=cri.ImageSpec(image=image.id))
        connection.call(f"remove {image.id}", connection.images.RemoveImage, request)
    removed = [
        pb.Image(id=each.id, tags=each.repo_tags, digests=each.repo_digests, size=each.size)
        for each in found
    ]
    return pb.PruneResponse(removed=removed, bytes=sum(image.size for image in found))


image_group.add_command(import_images)
image_group.add_command(export_images)
