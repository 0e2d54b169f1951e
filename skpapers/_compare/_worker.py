"""The process that fits: it can be ended at any time without harm to the run.

It is started as a plain subprocess rather than with :mod:`multiprocessing`, so that it works
inside Dask and loky workers (daemonic processes may not have children) and in scripts without
``if __name__ == "__main__"``. Messages are pickles with their length in front.
"""

import os
import queue
import struct
import sys
import threading

try:
    import cloudpickle
except ModuleNotFoundError:  # joblib before 1.6 brings its own
    from joblib.externals import cloudpickle

IDLE_SECONDS = 120


def write_frame(stream, message):
    """Send one message."""
    frame = cloudpickle.dumps(message)
    stream.write(struct.pack("<Q", len(frame)))
    stream.write(frame)
    stream.flush()


def read_frame(stream):
    """Receive the bytes of one message; None when the other side is gone."""
    header = stream.read(8)
    if len(header) < 8:
        return None
    return stream.read(struct.unpack("<Q", header)[0])


def unpack(frame):
    """Read the message in the bytes of a frame."""
    return cloudpickle.loads(frame)


def main():
    """Answer requests until the parent is gone or has been silent for long."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)  # what an estimator prints must not get among the answers
    _be_the_first_to_go()
    inbox = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(requests, inbox), daemon=True).start()
    server = _Server(answers)
    while True:
        try:
            frame = inbox.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            return
        server.answer(frame)


def _receive(stream, inbox):
    """Pass messages on; end the process, even in the middle of a fit, when the parent is gone."""
    while (frame := read_frame(stream)) is not None:
        inbox.put(frame)
    os._exit(0)


def _be_the_first_to_go():
    """Out of memory, Linux should end this process and not the one that keeps the results."""
    if sys.platform == "linux":
        try:
            with open("/proc/self/oom_score_adj", "w") as file:
                file.write("900")
        except OSError:  # a container may forbid it
            return


class _Server:
    """State of the process: the problem and the method it was told."""

    def __init__(self, stream):
        self.stream = stream
        self.problem = None
        self.method = None

    def answer(self, frame):
        """Do what a message asks. Whatever an estimator raises is an answer, not our end."""
        try:
            kind, *content = unpack(frame)
            reply = ("done", getattr(self, f"_{kind}")(*content))
        except MemoryError as error:
            reply = ("out of memory", str(error) or "MemoryError")
        except (KeyboardInterrupt, SystemExit) as error:
            reply = ("failed", f"the method ended the process ({type(error).__name__})")
        except Exception as error:
            status = "out of memory" if "allocate memory" in str(error) else "failed"
            reply = (status, f"{type(error).__name__}: {error}")
        write_frame(self.stream, reply)

    def _problem(self, problem):
        self.problem = problem

    def _method(self, method):
        self.method = method

    def _probe(self):
        from ._evaluate import understands_unlabeled

        return understands_unlabeled(self.method, self.problem)

    def _fit(self, *arguments):
        from ._evaluate import evaluate

        return evaluate(
            self.problem,
            self.method,
            *arguments,
            fitted=lambda: write_frame(self.stream, ("fitted", None)),
        )
