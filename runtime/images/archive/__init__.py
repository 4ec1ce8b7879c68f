"""Images as archives: OCI image layouts in a tar, and what ``docker save`` writes.

``reader`` takes a tar apart as it arrives, ``contents`` is what it held, ``layout`` and ``docker``
find the images in that (pure but for reading small documents), ``importing`` brings them in.
``plan`` decides what an export consists of, ``writer`` turns that into bytes.

Nothing of an archive is ever used as a path: names are keys of a table, and bytes become blobs by
their digest.
"""
