"""Where pods come from.

``sources.updates``
    ``PodUpdates(added, changed, removed, errors)``: what one look at a source found;
    ``PodChange(old, new)``; ``SourceError(source, reason, fields, kept)``;
    ``diff(before, after)`` (pure).
``sources.static``
    ``StaticPodSource(path, node_name)``: ``async for updates in source`` yields PodUpdates; the
    first comes at once, even if there is nothing, so that the kubelet knows what may live.
``sources.static_pods``
    ``static_pod(data, file=, node_name=)``: bytes of a file -> StaticPod (pure).
``sources.url``
    ``UrlPodSource(url, headers, node_name, period)``: the same of a URL, which is asked now and
    then.
"""
