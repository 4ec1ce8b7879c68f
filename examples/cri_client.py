"""Talk to a CRI v1 runtime: run it with the socket's path, or without for kubeletpy's own.

python examples/cri_client.py [/run/kubeletpy/runtime.sock]
"""

import sys

import grpc

from kubeletpy_proto import cri_pb2, cri_pb2_grpc


def main(socket: str) -> None:
    """Print what the runtime behind ``socket`` has."""
    with grpc.insecure_channel(f"unix://{socket}") as channel:
        runtime = cri_pb2_grpc.RuntimeServiceStub(channel)
        images = cri_pb2_grpc.ImageServiceStub(channel)

        version = runtime.Version(cri_pb2.VersionRequest(), timeout=5)
        print(
            f"{version.runtime_name} {version.runtime_version} speaks {version.runtime_api_version}"
        )

        for image in images.ListImages(cri_pb2.ListImagesRequest(), timeout=5).images:
            print(f"image     {image.id[:19]}  {', '.join(image.repo_tags)}")
        for pod in runtime.ListPodSandbox(cri_pb2.ListPodSandboxRequest(), timeout=5).items:
            state = cri_pb2.PodSandboxState.Name(pod.state)
            print(f"sandbox   {pod.id[:12]}  {pod.metadata.namespace}/{pod.metadata.name}  {state}")
        for container in runtime.ListContainers(
            cri_pb2.ListContainersRequest(), timeout=5
        ).containers:
            state = cri_pb2.ContainerState.Name(container.state)
            print(f"container {container.id[:12]}  {container.metadata.name}  {state}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "/run/kubeletpy/runtime.sock")
