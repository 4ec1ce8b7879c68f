"""The client's side of exec, attach and port-forward.

``remote`` is what a session needs of either protocol; ``websocket`` and ``spdy`` speak it;
``session`` joins it with the terminal; ``forward`` carries ports.
"""
