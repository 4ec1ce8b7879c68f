"""The client of a Kubernetes API server that all daemons of a node use.

``apiclient.kubeconfig``
    ``read_kubeconfig(path) -> Access``: where the API server is and how to prove who we are.
``apiclient.client``
    ``ApiClient(access)``: ``get``, ``create``, ``update``, ``patch``, ``delete``, ``watch``; JSON
    as dicts; every call has a deadline; failures are ``ApiError``.
``apiclient.reflector``
    ``Reflector(client, path, ...)``: ``async for`` of ``Synced`` and ``Changed``; it goes on after
    faults by itself.
"""
