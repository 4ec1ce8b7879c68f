#!/bin/sh
# Removes the Node object of a machine that is gone; runs on the server.
#
# Environment:
#   NODE   the name of the node (required)
set -eu

here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=vagrant/provision/common.sh
. "$here/common.sh"

require_root
require NODE "the name of the node that is gone"
/opt/kubeletpy/current/bin/python3 - "$NODE" <<'PROGRAM'
import asyncio
import sys
from pathlib import Path
from urllib.parse import quote

from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.errors import ApiError
from kubeletpy_common.apiclient.kubeconfig import read_kubeconfig


async def forget(name: str) -> None:
    access = read_kubeconfig(Path("/etc/kubeletpy/admin.kubeconfig"))
    async with ApiClient(access) as client:
        try:
            await client.delete(f"/api/v1/nodes/{quote(name, safe='')}")
        except ApiError as error:
            if not error.not_found:
                sys.exit(f"forget.sh: deleting node {name}: {error}")


asyncio.run(forget(sys.argv[1]))
PROGRAM
say "node $NODE is no longer in the cluster"
