"""Images: references, the registry client, the content store, unpacking, and the service.

Nothing that a registry sends is trusted: every digest and size is verified, every document is
bounded and checked by type, and every layer is unpacked by look-ups that cannot leave its root.
"""
