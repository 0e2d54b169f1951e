"""The parent's side of the fitting processes: budgets, and processes kept warm."""

import atexit
import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading

from ._errors import Failure
from ._worker import read_frame, unpack, write_frame

_THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS", "BLIS_NUM_THREADS", "LOKY_MAX_CPU_COUNT",
)  # fmt: skip
# threads that wait asleep: spinning ones slow a shared machine down tenfold
_QUIET = {"OMP_WAIT_POLICY": "PASSIVE", "MPLBACKEND": "Agg"}
_START_SECONDS = 180.0  # importing torch from a cold disk takes long; it is not the method's fault


class Worker:
    """A process that fits, replaced when it had to be killed.

    Parameters
    ----------
    threads : int
        Threads that the numerical libraries may use in it.
    """

    def __init__(self, threads):
        self.threads = threads
        self._process = None
        self._problem = None
        self._method = None

    def fit(self, problem, method, *arguments):
        """Fit and score once; raises Failure when there is no score."""
        self._tell(problem, method)
        self._send(("fit", *arguments))
        self._receive(problem.budget, "the fit")
        return self._receive(problem.budget, "the prediction")

    def understands_unlabeled(self, problem, method):
        """Ask whether the method learns from unlabelled rows; no if it raises or is too slow."""
        try:
            self._tell(problem, method)
            self._send(("probe",))
            return self._receive(problem.budget, "the probe")
        except Failure:
            return False

    def kill(self):
        """End the process and those it has started."""
        process, self._process = self._process, None
        self._problem = self._method = None
        if process is None:
            return
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
        with contextlib.suppress(OSError):
            process.stdin.close()

    def _tell(self, problem, method):
        """Give the process what it needs that it does not have yet."""
        if self._process is None or self._process.poll() is not None:
            self.kill()
            self._start()
        if self._problem != problem.fingerprint:
            self._ask(("problem", problem))
            self._problem = problem.fingerprint
        if self._method is not method:
            self._ask(("method", method))
            self._method = method

    def _start(self):
        limits = {name: _at_most(self.threads, os.environ.get(name)) for name in _THREADS}
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from skpapers._compare._worker import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, **_QUIET, **limits, "PYTHONPATH": path},
            **_own_group(),
        )
        self._answers = queue.SimpleQueue()
        target = (self._process.stdout, self._answers)
        threading.Thread(target=_listen, args=target, daemon=True).start()

    def _ask(self, message):
        self._send(message)
        return self._receive(_START_SECONDS, "starting the process")

    def _send(self, message):
        try:
            write_frame(self._process.stdin, message)
        except (BrokenPipeError, OSError, AttributeError) as error:
            self.kill()
            raise Failure("crashed", "the process is gone") from error

    def _receive(self, limit, what):
        try:
            frame = self._answers.get(timeout=limit)
        except queue.Empty:
            self.kill()
            raise Failure("over budget", f"{what} took longer than {limit:g} s") from None
        if frame is None:
            code = self._process.wait() if self._process is not None else 0
            self.kill()
            raise Failure("crashed", _describe_exit(code))
        status, content = unpack(frame)
        if status not in ("done", "fitted"):
            raise Failure(status, content)
        return content


def _at_most(threads, wished):
    """The share of a worker, or what the user's environment says where that is less."""
    return str(min(threads, int(wished)) if wished and wished.isdigit() else threads)


def _own_group():
    """Keep Ctrl-C away from the process: the parent decides when it ends."""
    if os.name == "posix":
        return {"start_new_session": True}
    return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}


def _listen(stream, answers):
    while (frame := read_frame(stream)) is not None:
        answers.put(frame)
    stream.close()
    answers.put(None)


def _describe_exit(code):
    if code < 0:
        name = signal.Signals(-code).name
        hint = " (often: out of memory)" if name == "SIGKILL" else ""
        return f"the process was ended by {name}{hint}"
    return f"the process ended with exit code {code}"


class Pool:
    """The processes of this Python process; idle ones are used again."""

    def __init__(self):
        self._lock = threading.Lock()
        self._idle = []
        self._busy = set()
        atexit.register(self.close)

    @contextlib.contextmanager
    def borrow(self, threads):
        """Give a worker for one method, a warm one if there is one."""
        with self._lock:
            warm = [w for w in self._idle if w.threads == threads]
            worker = warm[0] if warm else Worker(threads)
            self._idle = [w for w in self._idle if w is not worker]
            self._busy.add(worker)
        try:
            yield worker
        finally:
            with self._lock:
                self._busy.discard(worker)
                self._idle.append(worker)

    def close(self):
        """End every process."""
        with self._lock:
            workers = [*self._idle, *self._busy]
            self._idle = []
        for worker in workers:
            worker.kill()


POOL = Pool()
