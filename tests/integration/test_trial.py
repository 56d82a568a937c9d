"""The process apart: which deaths tell against a picture, and which do not."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.contract.conftest import a_job
from tests.pictures import jpeg

from futu.compute import trial as trial_module
from futu.compute.attempts import Attempts
from futu.compute.trial import Trial, TrialDiedError
from futu.errors import FutuError
from futu.images.decode import DecodeLimits
from futu.jobs.admin import JobAdmin
from futu.jobs.message import ImageItem
from futu.jobs.streams import JobQueue
from futu.models import registry, store

LITE0 = registry.spec("efficientnet-lite0")
LIMITS = DecodeLimits(10**8, 10**8)
MODEL_ID = LITE0.model_id
GOOD = ImageItem(data=jpeg(1), name="good.jpg")


@pytest.fixture(scope="module")
def graph(models_dir: Path) -> Path:
    return store.model_file(LITE0, models_dir)


def made(graph: Path, limits: DecodeLimits = LIMITS, timeout_s: float = 20) -> Trial:
    return Trial(lambda: [(LITE0, graph)], limits, 10**9, timeout_s)


@pytest.fixture
def trial(graph: Path) -> Iterator[Trial]:
    trial = made(graph)
    yield trial
    trial.close()


@pytest.fixture
def fifo(tmp_path: Path) -> ImageItem:
    """A picture that can be read only while the test writes it."""
    path = tmp_path / "fifo.jpg"
    os.mkfifo(path)
    return ImageItem(path=os.fsencode(path), name=path.name)


def child_of(pid: int) -> psutil.Process:
    (found,) = (
        child
        for child in psutil.Process(pid).children()
        if any("spawn_main" in part for part in child.cmdline())
    )
    return found


def child() -> psutil.Process:
    return child_of(os.getpid())


def kill(process: psutil.Process) -> None:
    """kill -9, and wait for the end, which is left for the trial to learn."""
    process.kill()
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


def opened(item: ImageItem) -> int:
    """Wait until the child reads the picture."""
    assert item.path is not None
    return os.open(item.path, os.O_WRONLY)


def in_background(done: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(done())
        except FutuError as error:
            outcome.append(error)
        except TrialDiedError as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, outcome


def test_child_that_died_idle_condemns_no_picture(trial: Trial) -> None:
    assert trial.run(GOOD, [MODEL_ID]).vectors
    kill(child())
    assert trial.run(GOOD, [MODEL_ID]).vectors


def test_child_outlives_a_sigterm_to_the_process_group(trial: Trial) -> None:
    assert trial.run(GOOD, [MODEL_ID]).vectors
    before = child()
    before.terminate()
    assert trial.run(GOOD, [MODEL_ID]).vectors
    assert child().pid == before.pid


def test_picture_whose_child_was_killed_once_is_done_in_a_fresh_one(
    trial: Trial, fifo: ImageItem
) -> None:
    thread, outcome = in_background(lambda: trial.run(fifo, [MODEL_ID]))
    first = opened(fifo)
    killed = child()
    kill(killed)
    os.close(first)
    second = opened(fifo)
    os.write(second, jpeg(1))
    os.close(second)
    thread.join()
    assert outcome[0].vectors == trial.run(GOOD, [MODEL_ID]).vectors
    assert child().pid != killed.pid


def test_picture_over_which_two_children_die_is_condemned(trial: Trial, fifo: ImageItem) -> None:
    thread, outcome = in_background(lambda: trial.run(fifo, [MODEL_ID]))
    for _ in range(2):
        held = opened(fifo)
        kill(child())
        os.close(held)
    thread.join()
    assert isinstance(outcome[0], TrialDiedError)
    assert "SIGKILL, twice" in str(outcome[0])
    assert trial.run(GOOD, [MODEL_ID]).vectors


def test_picture_that_is_late_twice_is_condemned(graph: Path, fifo: ImageItem) -> None:
    trial = made(graph, timeout_s=0.2)
    try:
        with pytest.raises(TrialDiedError, match=r"not done after 0\.2 s, twice"):
            trial.run(fifo, [MODEL_ID])
    finally:
        trial.close()


def _answers_nonsense() -> DecodeLimits:
    """Called in the child, where it takes the place of the limits."""
    vars(trial_module)["encode"] = lambda message: b"\xc1 not msgpack"
    return LIMITS


class Nonsense(DecodeLimits):
    def __reduce__(self) -> tuple[Callable[[], DecodeLimits], tuple[()]]:
        return _answers_nonsense, ()


@pytest.mark.parametrize("fault", ["does not start", "answers nonsense"])
def test_faults_of_the_child_give_the_job_back_and_condemn_nothing(
    graph: Path, redis_url: str, fault: str
) -> None:
    queue = JobQueue(redis_url, lease_s=5)
    if fault == "does not start":
        trial = made(graph.with_name("gone.onnx"))
    else:
        trial = made(graph, Nonsense(10**8, 10**8))
    attempts = Attempts(queue, trial, "s", 3)
    try:
        job = a_job("inline", data=jpeg(1))
        job.model_ids = [MODEL_ID]
        queue.enqueue(job)
        (lease,) = queue.lease("inline", "a")
        assert not attempts.apart(lease)
        (state,) = JobAdmin(queue).jobs()
        assert state.job.job_id == lease.job.job_id
        assert not queue.locks.is_locked(lease.job.job_id)
        assert JobAdmin(queue).dead_count() == 0
    finally:
        attempts.close()
        queue.close()


def test_child_stuck_on_a_picture_ends_with_its_parent(graph: Path, fifo: ImageItem) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from futu.compute.trial import Trial\n"
        "from futu.images.decode import DecodeLimits\n"
        "from futu.jobs.message import ImageItem\n"
        "from futu.models import registry\n"
        "if __name__ == '__main__':\n"
        "    spec, limits = registry.spec(), DecodeLimits(10**8, 10**8)\n"
        "    trial = Trial(lambda: [(spec, Path(sys.argv[1]))], limits, 10**9, 60)\n"
        "    trial.run(ImageItem(path=sys.argv[2].encode(), name='x'), [spec.model_id])\n"
    )
    assert fifo.path is not None
    parent = subprocess.Popen([sys.executable, "-c", program, str(graph), os.fsdecode(fifo.path)])
    held = opened(fifo)
    stuck = child_of(parent.pid)
    parent.kill()
    parent.wait()
    try:
        _, alive = psutil.wait_procs([stuck], timeout=20)
        assert alive == []
    finally:
        os.close(held)
