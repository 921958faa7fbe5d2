"""What processes do in the tests of processes. Nothing heavy is imported here: each process does it anew."""

import os
import signal
import time

from trainer.errors import DataError, Interrupted
from trainer.processes import run_processes
from trainer.signals import StopRequest, status_of


def succeed(number, stop, folder):
    (folder / str(number)).write_text("done")


def fail(number, stop, kind):
    if number == 1:
        if kind == "said":
            raise DataError("the data are wrong")
        if kind == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise SystemExit(7)
    wait_for(stop)


def wait_for(stop):
    deadline = time.monotonic() + 60
    stop.can_save = True
    while not stop.number and time.monotonic() < deadline:
        time.sleep(0.02)
    raise Interrupted("stopped and saved", status_of(stop.number))


def stop_when_asked(number, stop, folder):
    stop.can_save = True
    (folder / str(number)).write_text("waits")
    wait_for(stop)


def stop_with_a_full_disk(number, stop, folder):
    try:
        stop_when_asked(number, stop, folder)
    except Interrupted:
        if number == 1:
            raise OSError(28, "No space left on device") from None
        raise


def start_one_that_waits(folder):
    run_processes(stop_when_asked, 1, (folder,), StopRequest())
