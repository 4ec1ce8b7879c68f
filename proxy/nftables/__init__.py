"""nftables mode: one table of our own for each family, spoken over netlink.

``nftables.layout``
    What the table looks like; begin there.
``nftables.portals``
    What one portal is in it.
``nftables.ledger``
    What is in it, and what a change of portals changes.
``nftables.fields``, ``nftables.statements``, ``nftables.ruleset``
    The rule language: each thing is a text and bytes of a message.
``nftables.wire``, ``nftables.socket``, ``nftables.transaction``
    Messages, and their way to the kernel.
``nftables.watch``, ``nftables.affinity``
    What others do to the table; what a new table takes over.
``nftables.tables``
    One of two tables is in force: filling, changing and swapping them.
``nftables.backend``
    The rule set that the proxy uses.
"""
