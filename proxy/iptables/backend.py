"""The rules of one family, carried out by the iptables programs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from kubeletpy_common import legacy_tables, logs

from ..backend import RuleOptions, Synced, SyncError, Wanted
from . import kernel, names
from .removal import removal
from .rules import Host, answers_on_localhost, hairpin_match, jumps
from .ruleset import TABLES, Changes, Found, RuleSet, find, same_rule, split_rule
from .tools import BackEnd, Tools, detect, tools_for

_log = logging.getLogger(__name__)

_ROUTE_LOCALNET: Final = "net/ipv4/conf/all/route_localnet"
_TCP_LIBERAL: Final = "net/netfilter/nf_conntrack_tcp_be_liberal"


class IptablesBackend:
    """A `proxy.backend.Backend` of iptables, in the nft or the legacy back end.

    Args:
        options: what holds for all portals.
        tools: the programs; found on the machine, at the first use, if not given.
        directories: where to look for them, as in PATH; without it PATH and the usual places.
    """

    def __init__(
        self, options: RuleOptions, tools: Tools | None = None, directories: str = ""
    ) -> None:
        self._options = options
        self._directories = directories
        self._tools = tools
        self._rules: RuleSet | None = None
        self._signature: object = None
        self._watch: kernel.Watch | None = None
        self._looking = threading.Lock()
        self._comparing = False

    def sync(self, wanted: Wanted) -> Synced:
        """See `proxy.backend.Backend.sync`."""
        rules = None if wanted.full else self._rules
        # Until it succeeded, what is in force is not known.
        self._rules = None
        if rules is None:
            self._rules, synced = self._sync_all(wanted)
            return synced
        synced = self._sync_changed(wanted, rules)
        self._rules = rules
        return synced

    def plan(self, wanted: Wanted) -> str:
        """See `proxy.backend.Backend.plan`: what is read by ``iptables-restore --noflush``."""
        changes = RuleSet(self._options, Host()).make_all(wanted.portals, Found())
        return changes.text()

    def intact(self) -> bool:
        """See `proxy.backend.Backend.intact`; forks only if anybody changed any rule."""
        if self._rules is None:
            return False
        with self._looking:
            signature = self._read_signature()
            if signature is not None and signature == self._signature:
                return True
            intact = self._look()
            if intact:
                self._signature = signature
            return intact

    def watch(self, doubt: Callable[[str], None]) -> Callable[[], None] | None:
        """See `proxy.backend.Backend.watch`; the legacy back end cannot."""
        try:
            tools = self._ready_tools()
        except SyncError:
            return None  # the first sync says so
        if tools.back_end is not BackEnd.NFT:
            return None

        def lost() -> None:
            if not self.intact():
                doubt("rules were changed by others, more than could be read")

        try:
            watch = kernel.Watch(self._options.family, tools.own.__contains__, doubt, lost)
        except OSError as error:
            logs.event(
                _log, logging.WARNING, "changes of nftables by others cannot be watched; the rules "
                "are looked at now and then", reason=str(error),
            )  # fmt: skip
            return None
        self._watch = watch

        return self.close

    def cleanup(self) -> None:
        """See `proxy.backend.Backend.cleanup`; in both back ends."""
        self._rules = None
        problems = []
        for back_end in BackEnd:
            tools = tools_for(self._options.family, back_end, self._directories)
            if not tools:
                continue
            try:
                _remove_all(tools)
            except SyncError as error:
                problems.append(str(error))
        if problems:
            raise SyncError("; ".join(problems))

    def close(self) -> None:
        """See `proxy.backend.Backend.close`."""
        watch, self._watch = self._watch, None
        if watch:
            watch.stop()

    # Syncs.

    def _sync_all(self, wanted: Wanted) -> tuple[RuleSet, Synced]:
        tools = self._ready_tools()
        found = find(tools.saved(), self._options)
        rules = RuleSet(self._options, self._host(tools))
        changes = _made(lambda: rules.make_all(wanted.portals, found))
        watch = self._watch
        if watch:
            watch.pause()
        try:
            written = self._write(changes, "write all rules")
        finally:
            if watch:
                watch.listen()
        if answers_on_localhost(self._options):
            # Only now, with the guard in place.
            _set_sysctl(_ROUTE_LOCALNET, "1", "node ports do not answer on 127.0.0.1")
        return rules, Synced(True, len(wanted.portals), written, rules.rules)

    def _sync_changed(self, wanted: Wanted, rules: RuleSet) -> Synced:
        changes = _made(lambda: rules.make_changed(wanted.portals, wanted.changed))
        written = self._write(changes, "write the rules that changed")
        return Synced(False, len(wanted.changed), written, rules.rules)

    def _write(self, changes: Changes, what: str) -> int:
        written = self._ready_tools().write(changes.drain(), what)
        self._signature = self._read_signature()
        return written

    # The machine.

    def _ready_tools(self) -> Tools:
        if self._tools is None:
            self._tools = detect(self._options.family, self._directories)
            logs.event(
                _log, logging.INFO, "programs of iptables", family=self._options.family.name,
                program=self._tools.restore, back_end=self._tools.back_end.value,
            )  # fmt: skip
        return self._tools

    def _host(self, tools: Tools) -> Host:
        return Host(
            random_fully=tools.random_fully,
            compares_addresses=self._comparing or self._compares_addresses(tools),
            tcp_liberal=_read_sysctl(_TCP_LIBERAL) not in ("", "0"),
        )

    def _compares_addresses(self, tools: Tools) -> bool:
        """Whether kernel and programs know the match: tried in a chain that nothing enters."""
        rule = f"-A {names.CANARY} {hairpin_match(self._options.family)}"
        text = f"*mangle\n:{names.CANARY} - [0:0]\n{rule}\n-F {names.CANARY}\nCOMMIT\n"
        try:
            tools.write(text, "try the match bpf")
        except SyncError as error:
            if "xtables lock" in str(error):
                raise
            logs.event(
                _log, logging.WARNING, "each endpoint gets a chain, which is slower: the match bpf "
                "is missing", reason=str(error),
            )  # fmt: skip
            return False
        self._comparing = True
        return True

    def _read_signature(self) -> object:
        """What any change changes, as the kernel tells it; None if it does not."""
        try:
            if self._ready_tools().back_end is BackEnd.NFT:
                return kernel.generation()
            return legacy_tables.sizes(self._options.family, TABLES)
        except OSError as error:
            logs.event(_log, logging.DEBUG, "no signature of the rules", reason=str(error))
            return None

    def _look(self) -> bool:
        """Whether canaries and jumps are there, as the programs tell."""
        tools = self._ready_tools()
        for table in TABLES:
            lines = tools.listed(table, names.CANARY)
            # The chain alone is not enough where a rule was: somebody flushed the table.
            if lines is None or (len(lines) < 2 and table != "mangle"):
                return False
        wanted = jumps(self._options)
        for table, source in sorted({(jump.table, jump.source) for jump in wanted}):
            present = [split_rule(line)[2:] for line in tools.listed(table, source) or ()]
            for jump in wanted:
                if (jump.table, jump.source) == (table, source) and not any(
                    same_rule(jump, words) for words in present
                ):
                    return False
        return True


def _made(make: Callable[[], Changes]) -> Changes:
    try:
        return make()
    except OSError as error:
        raise SyncError(f"a portal has an address that is none: {error}") from error


def _remove_all(tools: Tools) -> None:
    """Remove our jumps, whatever their form, and chains, of this family and back end."""
    saved = tools.saved()
    wanted = removal(saved)
    if wanted.guard and not _set_sysctl(_ROUTE_LOCALNET, "0", "the guard of 127.0.0.0/8 stays"):
        wanted = removal(saved, guard=False)
    if wanted.text:
        tools.write(wanted.text, "remove all rules")


def _read_sysctl(name: str) -> str:
    try:
        return (Path("/proc/sys") / name).read_text().strip()
    except OSError:
        return ""


def _set_sysctl(name: str, value: str, otherwise: str) -> bool:
    """Set a sysctl that is other; if that fails, say what follows from it and return False."""
    if _read_sysctl(name) == value:
        return True
    try:
        (Path("/proc/sys") / name).write_text(value)
    except OSError as error:
        logs.event(
            _log, logging.ERROR, otherwise, reason=f"{name} cannot be set to {value}: {error}",
            remedy="set it on the host",
        )  # fmt: skip
        return False
    return True
