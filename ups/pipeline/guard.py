"""Run one command and see to it that it ends when its driver does, also when that is killed with -9.

    python -I -S guard.py DRIVER_PID COMMAND [ARGUMENT ...]

The command runs in a process group of its own. When the driver dies, or on SIGTERM, SIGINT or SIGHUP, the group is
asked to end (SIGTERM) and killed after a grace period. What the command leaves running in its group is killed too.
A driver that dies may leave MLflow runs open: the last act of a guard that was told to stop is to start what closes
them, in the project's folder UPS_PROJECT_ROOT.
The exit code is the command's; 128 + number if a signal ended it. Linux only, like `prctl`; no imports of this project,
because it starts once per stage.
"""

import contextlib
import ctypes
import os
import signal
import sys
import time

GRACE_S = float(os.environ.get("UPS_GRACE_S", "10"))
_PR_SET_PDEATHSIG = 1
_STOP = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_WATCHED = {*_STOP, signal.SIGCHLD}


def guarded(command: list[str]) -> list[str]:
    """Return the command line that runs a command under a guard which ends it when this process ends."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main() -> int:
    driver, command = int(sys.argv[1]), sys.argv[2:]
    prctl = ctypes.CDLL(None).prctl
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    guard = os.getpid()
    if os.getppid() != driver:
        return 128 + signal.SIGTERM
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # kept by exec
        if os.getppid() != guard:
            os._exit(128 + signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        os.execvp(command[0], command)
    deadline = None
    while True:
        remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
        got = signal.sigwaitinfo(_WATCHED) if remaining is None else signal.sigtimedwait(_WATCHED, remaining)
        if got is not None and got.si_signo in _STOP and deadline is None:
            _signal_group(child, signal.SIGTERM)
            deadline = time.monotonic() + GRACE_S
        elif deadline is not None and time.monotonic() >= deadline:
            _signal_group(child, signal.SIGKILL)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
    _signal_group(child, signal.SIGKILL)
    if deadline is not None:
        _repair(os.environ.get("UPS_PROJECT_ROOT", ""))
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _repair(root: str) -> None:
    """Start what waits for the driver's end and closes the runs it leaves; it holds none of this process's locks."""
    with contextlib.suppress(OSError):
        if os.listdir(os.path.join(root, ".ups", "tracking")):
            import subprocess  # not above: it would cost every stage's start 10 ms

            command = [sys.executable, "-m", "ups.pipeline.repair"]
            null = subprocess.DEVNULL
            subprocess.Popen(command, cwd=root, stdin=null, stdout=null, stderr=null, start_new_session=True)


def _signal_group(child: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody left
        os.killpg(child, number)


if __name__ == "__main__":
    sys.exit(main())
