"""Generated gRPC and protobuf code of the protocols this node speaks (see ``proto/generate.py``)."""
