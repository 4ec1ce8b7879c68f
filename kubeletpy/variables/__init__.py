"""What environment variables of containers are made of, beyond what the pod itself says.

``variables.services``
    Variables of the services that a container sees, and the services themselves, by watch.
``variables.sources``
    ConfigMaps, Secrets and files that a container's ``env`` and ``envFrom`` name.
``variables.env_file``
    The parser of files of variables (fileKeyRef, KEP-3721).
"""
