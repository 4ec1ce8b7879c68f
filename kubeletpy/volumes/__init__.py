"""Volumes and files of pods on the node; see docs/volumes.md.

``volumes.manager``
    ``PodVolumes(node)``: ``track(pod)``, ``mount(pod)``, ``changed(uid)``, ``mounted(uid)``,
    ``unmount(uid)``, ``remove(uid)``; ``add(plugin)`` for further kinds of volumes.
``volumes.plugin``
    ``VolumePlugin``: what a kind of volumes has to offer (the CSI plugin is one).
``volumes.files``
    ``PodFiles(node)``: directories, /etc/hosts, termination logs.
``volumes.payload``, ``volumes.claims``, ``volumes.nested``
    Decisions as pure functions: contents, claims, what a pod uses.
``volumes.paths``
    ``PodPaths(root_dir, uid)``: where everything of a pod lies.
"""
