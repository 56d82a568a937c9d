"""The job queue: Redis Streams with one consumer group.

A job waits on the stream ``query``, ``library`` or ``inline``. A worker *leases* it (XREADGROUP)
and takes its lock, keeps the lease alive by heartbeats (XCLAIM JUSTID resets the idle time), and
delivers the result in one atomic step: reply on ``result:<job_id>`` with a TTL, acknowledge,
delete from the stream, unlock. The lock of a query is asked for without waiting; the step that
delivers refuses when another has it. A lease that has been silent for ``lease_s`` is taken over by
another worker (XAUTOCLAIM); the first one's delivery is then refused, because the entry is no
longer in its name.

A result that nobody waits for is also announced on the stream ``futu:done``, which the collector
reads from its start and deletes from after the catalogue has committed; a collector that dies in
between finds it there again.
"""

from __future__ import annotations

from futu.jobs.base import MAX_WAITING, OLDEST_REDIS
from futu.jobs.leasing import Lease, Leasing
from futu.jobs.sending import Done, Sending

__all__ = ["MAX_WAITING", "OLDEST_REDIS", "Done", "JobQueue", "Lease"]


class JobQueue(Sending, Leasing):
    """The queue as controller and compute servers use it. Safe for several threads.

    Every method raises ``RedisUnavailableError`` when Redis does not answer or is too old.

    Args:
        url: of Redis.
        lease_s: silence after which a lease may be taken over, seconds.
        result_ttl_s: how long a result waits to be fetched, seconds.
        max_bytes: the most that one stream may hold, bytes.

    Attributes:
        locks: the locks of jobs.
        servers: the compute servers that are alive.
    """
