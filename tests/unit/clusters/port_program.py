"""Started as several processes: finds its cluster, and meets rank 0 at a port that they agree on."""

from __future__ import annotations

import json
import socket

from levin.clusters import find_cluster


def meet(cluster):
    """Return in rank 0 who else came to the port that it has bound, and in all the port."""
    if cluster.global_rank() > 0:
        port = cluster.share_port(None)
        with socket.create_connection((cluster.main_address, port), timeout=20) as connection:
            connection.sendall(str(cluster.global_rank()).encode())
        return [], port
    with socket.create_server(("", 0)) as server:
        server.settimeout(20)
        port = cluster.share_port(server.getsockname()[1])
        return sorted(int(server.accept()[0].recv(8)) for _ in range(1, cluster.world_size())), port


found = find_cluster()
chosen = found.main_port
callers, agreed = ([], chosen) if chosen else meet(found)
told = {
    "cluster": type(found).__name__,
    "rank": found.global_rank(),
    "world_size": found.world_size(),
    "local_rank": found.local_rank(),
    "node_rank": found.node_rank(),
    "port": agreed,
    "main_port": found.main_port,
    "callers": callers,
}
print(json.dumps(told) + "\n", end="", flush=True)
