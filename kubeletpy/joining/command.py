"""``kubeletpy token``: bootstrap tokens of a cluster, ours or another."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import click

from kubeletpy.cri_cli.output import table
from kubeletpy_common.apiclient.client import ApiClient, object_path
from kubeletpy_common.apiclient.errors import ApiError
from kubeletpy_common.bootstrap_tokens import NAMESPACE, SECRET_TYPE, TOKEN, USAGES
from kubeletpy_common.settings.durations import ConfigurationError, duration

from . import tokens
from .connection import connected, is_loopback, kubeconfig_option, reached_by_others
from .discovery import public_key_hashes
from .tokens import BootstrapToken

_HEADS = ("TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "EXTRA GROUPS")
_SECRETS = object_path("v1", "secrets", NAMESPACE)


@click.group("token", context_settings={"help_option_names": ["-h", "--help"]})
def token_group() -> None:
    """Make, list and delete bootstrap tokens: what a machine joins a cluster with.

    \b
    What to run on a new machine:  kubeletpy token create --print-join-command
    """


@token_group.command()
@click.argument("token", required=False)
@click.option("--ttl", default="24h0m0s", show_default=True, help="How long it is good; 0: for "
              "ever.")  # fmt: skip
@click.option("--description", default="", help="For people.")
@click.option("--usages", default=",".join(USAGES), show_default=True, help="What it is for.")
@click.option("--groups", default=tokens.DEFAULT_GROUP, show_default=True, help="Of who uses it, "
              "besides system:bootstrappers.")  # fmt: skip
@click.option("--print-join-command", "print_join", is_flag=True, help="Print what to run on the "
              "machine that joins, in place of the token.")  # fmt: skip
@kubeconfig_option
def create(
    token: str | None,
    ttl: str,
    description: str,
    usages: str,
    groups: str,
    print_join: bool,
    given: str,
) -> None:
    """Make a token: TOKEN, or a random one."""
    try:
        life = duration(ttl, "--ttl")
        if life < 0:
            raise ConfigurationError(f"--ttl: {ttl} is less than nothing")
        made = BootstrapToken(
            token=token or tokens.generate(), description=description,
            expires=datetime.now(UTC) + timedelta(seconds=life) if life else None,
            usages=_words(usages), groups=_words(groups) if "authentication" in usages else (),
        )  # fmt: skip
        made.check()
    except (ValueError, OverflowError) as error:
        raise click.UsageError(str(error)) from None

    async def work(client: ApiClient) -> str:
        try:
            await client.create(_SECRETS, tokens.to_secret(made))
        except ApiError as error:
            if not error.conflict:
                raise
            raise click.ClickException(
                f"a token with the id {made.identifier} exists; delete it first: kubeletpy token "
                f"delete {made.identifier}"
            ) from None
        return await join_command(client, made.token) if print_join else made.token

    click.echo(connected(given, work))


@token_group.command("list")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table",
              show_default=True)  # fmt: skip
@kubeconfig_option
def list_tokens(output: str, given: str) -> None:
    """List the tokens that there are."""
    found: list[BootstrapToken] = []
    for secret in connected(given, _secrets):
        try:
            found.append(tokens.of_secret(secret))
        except ValueError as error:
            click.echo(str(error), err=True)
    if output == "json":
        click.echo(json.dumps([tokens.as_document(one) for one in found], indent=2))
        return
    now = datetime.now(UTC)
    table(_HEADS, [tokens.as_row(one, now) for one in found])


@token_group.command()
@click.argument("names", metavar="TOKEN...", nargs=-1, required=True)
@kubeconfig_option
def delete(names: tuple[str, ...], given: str) -> None:
    """Delete tokens, each named by its first part or as a whole."""
    identifiers = [_identifier(name) for name in names]

    async def work(client: ApiClient) -> None:
        for identifier in identifiers:
            name = tokens.secret_name(identifier)
            try:
                await client.delete(object_path("v1", "secrets", NAMESPACE, name))
            except ApiError as error:
                if not error.not_found:
                    raise
                raise click.ClickException(f"there is no token with the id {identifier}") from None
            click.echo(f'bootstrap token "{identifier}" deleted')

    connected(given, work)


@token_group.command()
def generate() -> None:
    """Print a random token, without making it."""
    click.echo(tokens.generate())


async def join_command(client: ApiClient, token: str) -> str:
    """Return what to run on a machine that is to join.

    Raises:
        ApiError, JoinError: the cluster does not tell where others reach it.
        click.ClickException: only this machine reaches it.
    """
    access = await reached_by_others(client)
    if is_loopback(access.server) or not access.ca:
        raise click.ClickException(
            f"the token {token} was made, but other machines do not reach {access.server}: start "
            "the API server with --advertise-address (kubeletpy install server does)"
        )
    pins = " ".join(f"--ca-cert-hash {one}" for one in public_key_hashes(access.ca))
    return f"kubeletpy install node --server {access.server} --token {token} {pins}"


async def _secrets(client: ApiClient) -> list[dict[str, object]]:
    answer = await client.get(_SECRETS, params={"fieldSelector": f"type={SECRET_TYPE}"})
    found: list[dict[str, object]] = answer.get("items") or []
    return found


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def _identifier(name: str) -> str:
    match = TOKEN.fullmatch(name) or TOKEN.fullmatch(f"{name}.{'0' * 16}")
    if match is None:
        raise click.UsageError("a token is of the form [a-z0-9]{6}.[a-z0-9]{16}, its id of the "
                               "form [a-z0-9]{6}")  # fmt: skip
    return match[1]
