"""The DNS of a cluster: names of Services and pods; other names are asked of others.

Source: Kubernetes DNS-Based Service Discovery, specification 1.1.0.

``dns.wire``
    Queries in, answers out, as bytes (pure).
``dns.zone``
    What a name of the cluster means (pure, of a ``Directory``).
``dns.directory``
    ``Directory``: Services, slices and namespaces, as informers have them.
``dns.cache``
    ``Cache``: answers of others, as long as they are good (pure).
``dns.forwarding``
    ``Forwarder``: asks others.
``dns.resolving``
    ``Resolver``: a query to its answer, wherever that comes from.
``dns.server``
    UDP and TCP.
``dns.monitoring``
    Metrics under CoreDNS' names, /health, /ready.

The records are put together here, byte by byte and once: of what the cluster says, most answers
are served from memory without looking at anything. All that is not plain is read and written by
dnspython.
"""
