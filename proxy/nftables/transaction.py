"""From contents and changes of a table to the messages of transactions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from ..backend import RuleOptions
from . import layout
from .layout import SHARED_SETS
from .ledger import Changes, Contents
from .ruleset import Chain, Element, Encoder, SetSpec, Table
from .wire import Message

_OVERHEAD = 64
"""Bytes that headers add to a message, and a batch's own, rounded up."""


def filling(encoder: Encoder, contents: Contents, comment: str) -> Iterator[Message]:
    """Yield what makes a table that is not in force: all but its base chains."""
    yield encoder.new_table(comment)
    for spec in contents.sets.values():
        yield encoder.new_set(spec)
    for chain in contents.chains.values():
        yield encoder.new_chain(chain)
    for name, elements in contents.elements.items():
        yield from encoder.add_elements(contents.sets[name], elements)
    for chain in contents.chains.values():
        yield from _rules(encoder, chain)


def activation(
    encoder: Encoder, old: Iterable[Encoder], base_chains: Iterable[Chain]
) -> Iterator[Message]:
    """Yield what puts a filled table in force and removes ``old`` ones, in one transaction."""
    for chain in base_chains:
        yield encoder.new_chain(chain)
        yield from _rules(encoder, chain)
    for each in old:
        yield each.delete_table()


def altering(
    encoder: Encoder,
    changes: Changes,
    *,
    chains_go: bool,
    shared: Mapping[str, SetSpec] | None = None,
) -> Iterator[Message]:
    """Yield what changes a table, as one transaction.

    Elements that name a chain go before it; rules and elements come after what they name.

    Args:
        chains_go: whether a chain can be removed together with the last element that names it:
            Linux before 6.2 still counts the element then. If not, the chain stays, empty.
        shared: sets that ``changes`` need not describe.
    """
    specs = {**(SHARED_SETS if shared is None else shared), **changes.own_sets}
    for name, elements in changes.removed.items():
        yield from encoder.delete_elements(specs[name], elements)
    emptied = [*changes.gone_chains, *(each.name for each in changes.other_chains)]
    for name in emptied:
        yield encoder.flush_chain(name)
    for name in changes.gone_sets:
        yield encoder.delete_set(name)
    if chains_go:
        for name in changes.gone_chains:
            yield encoder.delete_chain(name)
    for spec, _ in changes.new_sets:
        yield encoder.new_set(spec)
    for chain in changes.new_chains:
        yield encoder.new_chain(chain)
    for spec, elements_of_own in changes.new_sets:
        yield from encoder.add_elements(spec, elements_of_own)
    for chain in (*changes.other_chains, *changes.new_chains):
        yield from _rules(encoder, chain)
    for name, elements in changes.added.items():
        yield from encoder.add_elements(specs[name], elements)


def batches(messages: Iterable[Message], size: int) -> Iterator[list[Message]]:
    """Yield the messages in lists of about ``size`` bytes at most."""
    batch: list[Message] = []
    used = _OVERHEAD
    for message in messages:
        length = len(message.body) + _OVERHEAD
        if batch and used + length > size:
            yield batch
            batch, used = [], _OVERHEAD
        batch.append(message)
        used += length
    if batch:
        yield batch


def size_of(messages: Sequence[Message]) -> int:
    """Return about how many bytes a transaction of the messages has."""
    return sum(len(each.body) + _OVERHEAD for each in messages) + _OVERHEAD


def as_table(name: str, options: RuleOptions, contents: Contents) -> Table:
    """Return a table for its text."""
    table = Table(name, options.family, layout.TABLE_COMMENT)
    elements: Mapping[str, list[Element]] = contents.elements
    for set_name in sorted(contents.sets):
        table.sets[set_name] = contents.sets[set_name]
        table.elements[set_name] = list(elements.get(set_name, ()))
    chains: dict[str, Chain] = {each.name: each for each in layout.base_chains()}
    chains.update((name, contents.chains[name]) for name in sorted(contents.chains))
    table.chains = chains
    return table


def _rules(encoder: Encoder, chain: Chain) -> Iterator[Message]:
    for rule in chain.rules:
        yield encoder.new_rule(chain.name, rule)
