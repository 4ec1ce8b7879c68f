"""Events to the API server.

``events.correlation``
    ``Correlator.observe(event, now) -> Write | None``: which event is a new one, which one counts
    up another, which is one too many (pure but for its own memory).
``events.sink``
    ``EventSink``: sends them, a bounded number, later than whatever matters more.
"""
