"""The group ``kubeletpy image``: images of a runtime."""

from __future__ import annotations

from collections.abc import Iterable

import click
from rich.console import Console

from kubeletpy.cri_cli import lists, text
from kubeletpy.cri_cli.connection import Connection, group_options, runtime_options
from kubeletpy.cri_cli.output import output_option, plain, show, table
from kubeletpy_proto import cri_pb2 as cri

_PULL_SECONDS = 3600.0


@click.group("image", context_settings={"help_option_names": ["-h", "--help"]})
@group_options
def image_group() -> None:
    """Pull, list and remove images of a container runtime.

    \b
    kubeletpy image pull docker.io/library/busybox:1.36
    kubeletpy image ls
    kubeletpy image rm busybox:1.36
    kubeletpy image prune            (those that no container uses)
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
@runtime_options
def pull(connection: Connection, image: str, creds: str | None) -> None:
    """Fetch IMAGE from its registry, and print the reference by which it can be run.

    A short name is completed as everywhere: busybox is docker.io/library/busybox:latest.
    """
    auth = None
    if creds:
        user, colon, password = creds.partition(":")
        if not colon:
            password = click.prompt(f"Password of {user}", hide_input=True, err=True)
        auth = cri.AuthConfig(username=user, password=password)
    request = cri.PullImageRequest(
        image=cri.ImageSpec(image=image, user_specified_image=image), auth=auth
    )
    with Console(stderr=True).status(f"Pulling {image} ..."):
        answer = connection.call(
            f"pull {image}", connection.images.PullImage, request, _PULL_SECONDS
        )
    click.echo(answer.image_ref)


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


def unused(images: Iterable[cri.Image], containers: Iterable[cri.Container]) -> list[cri.Image]:
    """Return the images that no container, running or not, was made of; pinned ones stay (pure)."""
    used = {
        name
        for item in containers
        for name in (item.image_id, item.image_ref, item.image.image)
        if name
    }
    return [
        image
        for image in images
        if not image.pinned and not used & {image.id, *image.repo_tags, *image.repo_digests}
    ]


@image_group.command("prune")
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@runtime_options
def prune(connection: Connection, force: bool, dry_run: bool) -> None:
    """Remove all images that no container uses; pinned images stay."""
    found = unused(lists.list_images(connection), lists.list_containers(connection))
    if not found:
        click.echo("Every image is in use or pinned.", err=True)
        return
    total = text.size(sum(image.size for image in found))
    for image in found:
        names = ", ".join(image.repo_tags) or "<none>"
        click.echo(f"{text.short(image.id)}  {names}  {text.size(image.size)}", err=True)
    if dry_run:
        return
    if not force:
        click.confirm(f"Remove these {len(found)} images ({total})?", abort=True, err=True)
    for image in found:
        request = cri.RemoveImageRequest(image=cri.ImageSpec(image=image.id))
        connection.call(f"remove {image.id}", connection.images.RemoveImage, request)
        click.echo(image.id)
