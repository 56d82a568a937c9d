"""Whether the compute server of this host is registered: python -m futu.services.alive

For containers, where a host is one compute server, which speaks no HTTP. Exit code 1 when it is not
registered; 0 also when Redis does not answer, since a restart of the compute server mends nothing.
"""

from __future__ import annotations

import socket
import sys

from futu import config
from futu.errors import FutuError
from futu.jobs.streams import JobQueue


def registered(url: str, host: str) -> bool:
    """Whether a compute server of a host is registered, as far as Redis answers."""
    queue = JobQueue(url)
    try:
        return any(server.host == host for server in queue.servers.alive())
    except FutuError:
        return True
    finally:
        queue.close()


if __name__ == "__main__":
    sys.exit(0 if registered(config.load().redis_address, socket.gethostname()) else 1)
