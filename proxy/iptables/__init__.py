"""The rules of the iptables mode: the chains that those who know kube-proxy look for.

``names``
    names of chains, the peer's own where it has such a chain.
``dispatch``
    a long list of destinations as a tree of short chains.
``choice``
    an even choice of one endpoint of many.
``rules``, ``portals``
    lines of iptables: those that are always the same, and from portals: pure functions.
``ruleset``
    what is in force, and the text for ``iptables-restore`` that makes it what is wanted.
``removal``
    the text that takes everything away.
``tools``
    the programs of the nft and the legacy back end: which, how they are run, what their errors say.
``kernel``
    what the kernel itself tells of its tables: whether they changed, and who changed them.
``backend``
    `IptablesBackend`, which holds these together.
"""
