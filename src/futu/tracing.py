"""Which request, and which job, a thread is at; log lines say so.

A request has the id that its header ``X-Request-ID`` brings, or a new one. A build goes on under
the id of the request that began it, and each job carries it to the compute server that does it.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

HEADER = "X-Request-ID"

_ACCEPTED = re.compile(r"[A-Za-z0-9._:+/=-]{1,64}")
_request: ContextVar[str] = ContextVar("request_id", default="")
_job: ContextVar[str] = ContextVar("job_id", default="")


def request_id() -> str:
    """The id of the request that this thread works for; empty: of none."""
    return _request.get()


def job_id() -> str:
    """The id of the job that this thread is at; empty: at none."""
    return _job.get()


def begin_request(offered: str | None) -> str:
    """Let this thread work for a request from now on.

    Args:
        offered: the id that it brought; one that could not stand in a log is not taken.

    Returns:
        Its id.
    """
    usable = offered is not None and _ACCEPTED.fullmatch(offered)
    request = offered if offered is not None and usable else secrets.token_hex(8)
    _request.set(request)
    return request


def end_request() -> None:
    """Let this thread work for no request any more."""
    _request.set("")


@contextmanager
def about(request: str | None = None, job: str | None = None) -> Iterator[None]:
    """Work for a request, or at a job, until the block ends; None: as before."""
    of_request = None if request is None else _request.set(request)
    of_job = None if job is None else _job.set(job)
    try:
        yield
    finally:
        if of_job is not None:
            _job.reset(of_job)
        if of_request is not None:
            _request.reset(of_request)
