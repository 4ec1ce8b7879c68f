"""What the settings of all daemons share.

``settings.documents``
    Configuration files: reading, merging, structs.
``settings.flags``
    Flags as texts, and the fields that they set.
``settings.durations``
    Durations as Go writes them; `ConfigurationError`.
``settings.feature_gates``, ``settings.component_logging``
    What every component of Kubernetes has.
"""
