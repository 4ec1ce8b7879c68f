"""The nginx that serves: its files, its process, and changing both while it serves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Final

from kubeletpy_common import logs
from kubeletpy_common.atomic import write_atomic

from .certificates import make_default
from .model import Certificate, Site
from .rendering import Listening, rendered, users_name

_log = logging.getLogger(__name__)
_CHECK_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_SETTLED: Final = 10.0
"""Seconds after which an nginx that ended counts as one that had worked."""
_CONFIG: Final = "nginx.conf"


class NginxError(Exception):
    """nginx cannot be had, or refused a configuration; the message says what it said."""


class RefusedError(NginxError):
    """nginx refused a configuration."""


class Nginx:
    """One nginx, its master process a child of this one.

    Args:
        listening: where it listens, and its directory, which is made.
        program: to run.
    """

    def __init__(self, listening: Listening, program: str = "nginx") -> None:
        self._listening = listening
        self._program = program
        self._default = make_default()
        self._process: asyncio.subprocess.Process | None = None
        self._site: Site | None = None
        self._begin = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Of the master process; None: it does not run."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    async def apply(self, site: Site) -> bool:
        """Serve a site from now on; return whether anything changed.

        Requests under way are answered by the processes that have them.

        Raises:
            RefusedError: it refused the configuration; what was served before still is.
            NginxError: it could not be asked.
        """
        if site == self._site:
            return False
        directory = self._listening.directory
        await asyncio.to_thread(self._write_files, site)
        text = await self._checked(site)
        write_atomic(directory / _CONFIG, text.encode(), mode=0o600)
        self._site = site
        self._begin.set()
        if (pid := self.pid) is not None:
            os.kill(pid, signal.SIGHUP)
        await asyncio.to_thread(self._remove_old, site)
        return True

    async def refusal(self, site: Site) -> str:
        """Return what nginx has against a site, "" if nothing; what is served stays.

        Raises:
            NginxError: it could not be asked.
        """
        await asyncio.to_thread(self._write_files, site)
        try:
            await self._checked(site)
        except RefusedError as error:
            return str(error)
        return ""

    async def _checked(self, site: Site) -> str:
        """Return the configuration of a site.

        Raises:
            RefusedError: nginx refuses it, or it cannot be written.
            NginxError: it could not be asked.
        """
        try:
            text = rendered(site, self._listening)
        except ValueError as error:
            raise RefusedError(str(error)) from None
        await self._check(text)
        return text

    async def run(self) -> None:
        """Keep nginx running once there is a site, until cancelled; then it ends."""
        await self._begin.wait()
        pause, loop = _FIRST_PAUSE, asyncio.get_running_loop()
        try:
            while True:
                begun = loop.time()
                await self._start()
                assert self._process is not None
                status = await self._process.wait()
                # Its workers go on without it, and hold the ports.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                if loop.time() - begun > _SETTLED:
                    pause = _FIRST_PAUSE
                logs.event(_log, logging.ERROR, "nginx ended and is started again", status=status,
                           seconds=pause)  # fmt: skip
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
        finally:
            await self._stop()

    async def _start(self) -> None:
        directory = self._listening.directory
        # The kernel ends it with us: nobody else would.
        command = ["setpriv", "--pdeathsig", "TERM", "--", *self._command(directory / _CONFIG)]
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command, "-g", "daemon off;", stdin=subprocess.DEVNULL, start_new_session=True
            )
        except OSError as error:
            raise NginxError(f"cannot start {self._program}: {error}") from error

    async def _stop(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGQUIT)
        try:
            await asyncio.wait_for(process.wait(), _STOP_SECONDS)
        except (TimeoutError, asyncio.CancelledError):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            await process.wait()

    def _command(self, config: Path) -> list[str]:
        return [self._program, "-p", str(self._listening.directory), "-c", str(config)]

    async def _check(self, text: str) -> None:
        tried = self._listening.directory / "tried.conf"
        write_atomic(tried, text.encode(), mode=0o600)
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command(tried), "-t", "-q", stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )  # fmt: skip
            async with asyncio.timeout(_CHECK_SECONDS):
                _, said = await process.communicate()
        except OSError as error:
            raise NginxError(
                f"cannot run {self._program} ({error.strerror}); on Debian it is in the package "
                "nginx-light"
            ) from error
        except TimeoutError:
            process.kill()
            await process.wait()
            raise NginxError(f"nginx did not check a configuration in {_CHECK_SECONDS:.0f} s") \
                from None  # fmt: skip
        finally:
            tried.unlink(missing_ok=True)
        if process.returncode != 0:
            raise RefusedError(f"nginx refused the configuration: {said.decode(errors='replace')}")

    def prepare(self) -> None:
        """Make the directory.

        Raises:
            NginxError: the user of the workers is not known here.
        """
        one = self._listening
        try:
            group = pwd.getpwnam(one.user).pw_gid if one.user else -1
        except KeyError:
            raise NginxError(f"there is no user {one.user!r} for the workers of nginx") from None
        for name, mode in (("", 0o710), ("certificates", 0o700), ("users", 0o710), ("temp", 0o710)):
            path = one.directory / name
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            if one.user:
                os.chown(path, -1, group)
            path.chmod(mode)
        self._write_certificate(self._default)

    def _write_files(self, site: Site) -> None:
        for host in site.hosts:
            if host.certificate is not None:
                self._write_certificate(host.certificate)
            for location in host.locations:
                auth = location.options.auth
                if auth is not None:
                    path = self._listening.directory / "users" / users_name(auth)
                    write_atomic(path, auth.users.encode(), mode=0o640)
                    # Workers read it at each request.
                    if self._listening.user:
                        os.chown(path, -1, path.parent.stat().st_gid)

    def _write_certificate(self, certificate: Certificate) -> None:
        folder = self._listening.directory / "certificates"
        write_atomic(folder / f"{certificate.name}.key", certificate.key, mode=0o600)
        write_atomic(folder / f"{certificate.name}.crt", certificate.chain, mode=0o600)

    def _remove_old(self, site: Site) -> None:
        """Remove keys and passwords that nothing uses any longer."""
        used = {self._default.name}
        used |= {host.certificate.name for host in site.hosts if host.certificate is not None}
        users = {
            users_name(location.options.auth)
            for host in site.hosts for location in host.locations
            if location.options.auth is not None
        }  # fmt: skip
        for path in (self._listening.directory / "certificates").iterdir():
            if path.stem not in used:
                path.unlink(missing_ok=True)
        for path in (self._listening.directory / "users").iterdir():
            if path.name not in users:
                path.unlink(missing_ok=True)

    def clean(self) -> None:
        """Remove the directory, keys included; after `run` ended."""
        shutil.rmtree(self._listening.directory, ignore_errors=True)
