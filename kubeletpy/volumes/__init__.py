"""Volumes and files of pods on the node.

``volumes.paths``
    ``PodPaths(root_dir, uid)``: where everything of a pod lies.
``volumes.manager``
    ``PodVolumes(node)``: ``prepare_directories(pod)``, ``mount(pod) -> {volume: path}``,
    ``paths(pod) -> {volume: path}`` (pure), ``sub_paths(pod, container, variables) ->
    {index: path}``, ``write_hosts(pod, addresses) -> path``, ``termination_log(pod, container,
    attempt) -> path``, ``unmount(uid)``, ``remove(uid)``, ``remove_logs(pod)``,
    ``orphans(known uids) -> [uid]``. All blocking (files): call them in a thread. Each may be
    repeated at will. Failures are ``VolumeError`` (an OSError or a refused hostPath, named).
"""
