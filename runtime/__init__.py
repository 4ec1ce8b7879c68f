"""The container runtime: serves CRI v1 over gRPC, runs OCI images as real processes."""
