"""The kubelet as a client of a Kubernetes API server.

``apiclient.kubeconfig``
    ``read_kubeconfig(path) -> Access``: where the API server is and how to prove who we are.
``apiclient.client``
    ``ApiClient(access)``: ``get``, ``create``, ``update``, ``patch``, ``delete``, ``watch``; JSON
    as dicts; every call has a deadline; failures are ``ApiError``.
``apiclient.reflector``
    ``Reflector(client, path, ...)``: ``async for`` of ``Synced`` and ``Changed``; it goes on after
    faults by itself.
``apiclient.objects``
    ``ObjectCache(client, changed)``: ConfigMaps and Secrets that pods refer to, each watched.
"""
