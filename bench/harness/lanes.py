"""Runs of a benchmark side by side, each as a process of its own that prints a line of JSON when it is done."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Job = TypeVar("Job")
Sample = TypeVar("Sample")


def side_by_side(
    jobs: Sequence[Job],
    lanes: int,
    command_of: Callable[[Job], Sequence[str]],
    sample_of: Callable[[Job, dict[str, Any]], Sample],
) -> Iterator[Sample]:
    """What came of the jobs that went well, in their order; so many of them run at a time.

    Each sample is shown on standard error when it is there, and so is what a run that failed had to say. Whoever
    stops early, stops the runs.
    """
    running: set[subprocess.Popen[str]] = set()

    def carry_out(job: Job) -> Sample | None:
        command = command_of(job)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            running.add(process)
            output, trouble = process.communicate()
            running.remove(process)
        if process.returncode:
            print(f"{' '.join(command)} failed:\n{trouble}", file=sys.stderr, flush=True)
            return None
        sample = sample_of(job, json.loads(output))
        print(sample, file=sys.stderr, flush=True)
        return sample

    pool = ThreadPoolExecutor(lanes)
    try:
        yield from (sample for sample in pool.map(carry_out, jobs) if sample is not None)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list(running):  # somebody has stopped us
            process.terminate()
