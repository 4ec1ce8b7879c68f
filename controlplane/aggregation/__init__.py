"""APIs that other servers serve, behind this one.

``aggregation.registered``
    The APIServices that there are, by group and version.
``aggregation.resolving``
    From the Service of one to an endpoint (pure).
``aggregation.availability``
    Whether they answer: the condition ``Available``.
``aggregation.forwarding``
    Requests that go on to them.
``aggregation.discovery``
    What there is, ours and theirs in one answer (pure).
``aggregation.registration``
    APIServices of what this server serves itself.
``aggregation.trust``
    How extension servers know that it is this server that passes a request on.
"""
