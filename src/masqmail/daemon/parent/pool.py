"""The processes that carry out the parent's requests: started, watched, stopped when late, and heard.

Each writes one result into a pipe and ends. One that ends without a result, for whatever reason, gives an
empty one.
"""

import os
import selectors
import signal
import time
from collections.abc import Callable
from contextlib import suppress

TYPE_CHECKING = False  # as in `typing`, which would stay in the memory of the parent
if TYPE_CHECKING:
    from typing import NoReturn

MAX_WORKERS = 24  # as many as the daemon's lanes have places for
GRACE_SECONDS = 10.0  # between asking a worker to stop and killing it

_MAX_RESULT_BYTES = 32768  # less than a pipe holds: a worker never waits for us
_HELD_BACK = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

#: Runs in the new process with the pipe for its result; every signal of the parent is still blocked.
Work = Callable[[int], "NoReturn"]


class _Worker:
    """A process at work on one request. At `deadline` it gets `next_signal`."""

    def __init__(self, request: int, pid: int, pidfd: int, result: int, deadline: float) -> None:
        self.request = request
        self.pid = pid
        self.pidfd = pidfd
        self.result = result
        self.deadline = deadline
        self.next_signal = signal.SIGTERM


class WorkerPool:
    """Forks workers, and calls `finished` with the request's number and the result of each."""

    def __init__(self, selector: selectors.BaseSelector, finished: Callable[[int, bytes], None]) -> None:
        self._selector = selector
        self._finished = finished
        self._workers: dict[int, _Worker] = {}  # by process ID

    @property
    def is_full(self) -> bool:
        return len(self._workers) >= MAX_WORKERS

    @property
    def next_deadline(self) -> float | None:
        """When a worker will be late, on the monotonic clock."""
        return min((worker.deadline for worker in self._workers.values()), default=None)

    def start(self, request: int, work: Work, timeout_seconds: float) -> None:
        """Forks a process for a request. Raises `OSError` when there can be none."""
        result, theirs = os.pipe()
        try:
            pid = self._fork(work, theirs)
            pidfd = _open_pidfd(pid)
        except BaseException:
            os.close(result)
            raise
        finally:
            os.close(theirs)
        os.set_blocking(result, False)
        worker = _Worker(request, pid, pidfd, result, time.monotonic() + timeout_seconds)
        self._workers[pid] = worker
        self._selector.register(pidfd, selectors.EVENT_READ, lambda: self._reap(worker))

    def press_late(self) -> None:
        """Asks workers that are late to stop, and kills those that did not."""
        now = time.monotonic()
        for worker in self._workers.values():
            if worker.deadline <= now:
                self._press(worker, now)

    def end_all(self) -> None:
        """Stops every worker and waits for it: what is not finished is undone, nobody would hear of it."""
        now = time.monotonic()
        for worker in self._workers.values():
            self._press(worker, now)
        while self._workers:
            seconds = (self.next_deadline or now) - time.monotonic()
            for key, _ in self._selector.select(max(0.0, seconds)):
                key.data()
            self.press_late()

    def _press(self, worker: _Worker, now: float) -> None:
        with suppress(ProcessLookupError):
            os.kill(worker.pid, worker.next_signal)
        worker.next_signal = signal.SIGKILL
        worker.deadline = now + GRACE_SECONDS

    def _reap(self, worker: _Worker) -> None:
        self._selector.unregister(worker.pidfd)
        os.close(worker.pidfd)
        os.waitpid(worker.pid, 0)
        del self._workers[worker.pid]
        try:
            result = os.read(worker.result, _MAX_RESULT_BYTES)
        except BlockingIOError:
            result = b""
        os.close(worker.result)
        self._finished(worker.request, result)

    def _fork(self, work: Work, result: int) -> int:
        """Makes the process, and never returns in it. No signal reaches it before `work` is ready for one."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
        try:
            pid = os.fork()
            if not pid:
                self._be_worker(work, result)
            return pid
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD_BACK)

    def _be_worker(self, work: Work, result: int) -> "NoReturn":
        """The forked process: lets go of all that is the parent's, and goes to work."""
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            for key in self._selector.get_map().values():
                os.close(key.fd)
            work(result)
        finally:
            os._exit(os.EX_SOFTWARE)


def _open_pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except OSError:  # too many open files: nobody could watch it
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
