"""A laboratory for kube-proxies: hosts of network namespaces, an API server, endpoints, clients.

``topology``
    the hosts and the wires between them;
``answers``
    a process that answers on all endpoints: who it is and whom it sees;
``clients``
    asks from any host;
``apiserver``
    serves Services, EndpointSlices and Nodes, by list and watch, to any kube-proxy;
``objects``
    makes those;
``proxies``
    starts the proxy under test: ours, or any binary that takes a kube-proxy's configuration;
``lab``
    all of it together.
"""
