"""Training by several processes of this machine, each of which holds a part of the rows."""

import os
import pickle
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

__all__ = ["WorkerTurns", "train_in_processes"]

_SILENCE = timedelta(seconds=60)  # how long a worker waits for the others in one round


class WorkerTurns:
    """Batches of the workers in turn, or of one of them `only`.

    All workers have the same number of batches. Where that is not one, rows are shuffled within
    each worker, by draws that are the same for whichever worker the batches are.
    """

    def __init__(self, data, rows, batch_size, generator, only=None):
        smallest, largest = min(map(len, rows)), max(map(len, rows))
        self.n_batches = min(smallest, -(-largest // (batch_size or largest)))
        self.data = data
        self.rows = rows
        self.generator = generator
        self.workers = range(len(rows)) if only is None else [only]
        self.whole = None
        if self.n_batches == 1 and not data.is_sparse:
            self.whole = [data.take(rows[worker]) for worker in self.workers]

    def __len__(self):
        return self.n_batches * len(self.workers)

    def __iter__(self):
        if self.whole is not None:
            yield from self.whole
            return
        pieces = [self._shuffled(rows).tensor_split(self.n_batches) for rows in self.rows]
        for batch in range(self.n_batches):
            for worker in self.workers:
                yield self.data.take(pieces[worker][batch])

    def _shuffled(self, rows):
        if self.n_batches == 1:
            return rows
        return rows[torch.randperm(len(rows), generator=self.generator)]


def train_in_processes(train, n_workers, arguments, timeout):
    """Run ``train(rank, *arguments)`` in processes that form a gloo group.

    Parameters
    ----------
    train : callable
        A function that can be imported; returns what torch.save takes.
    n_workers : int
        Number of processes.
    arguments : tuple
        What `train` is given; every process has a copy.
    timeout : float
        Seconds after which all processes are ended.

    Returns
    -------
    list
        What `train` returned, in the order of the ranks.

    Raises
    ------
    TimeoutError
        If the processes have not ended in time.
    torch.multiprocessing.ProcessRaisedException
        With the traceback of a process that failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        # by a file: shared memory is scarce in containers
        Path(folder, "arguments").write_bytes(pickle.dumps(arguments))
        workers = mp.spawn(
            _work, (train, n_workers, folder), nprocs=n_workers, join=False, daemon=True
        )
        deadline = time.monotonic() + timeout
        try:
            while not workers.join(timeout=max(0.0, deadline - time.monotonic())):
                if time.monotonic() >= deadline:
                    raise TimeoutError(f"{n_workers} workers have not ended in {timeout} s")
        finally:
            for process in workers.processes:
                if process.is_alive():
                    process.kill()
                process.join()
        files = (Path(folder, f"{rank}.pt") for rank in range(n_workers))
        return [torch.load(file, weights_only=True) for file in files]


def _work(rank, train, n_workers, folder):
    """Body of a process; a module-level function, so that it can be spawned."""
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // n_workers))
    dist.init_process_group(
        "gloo",
        init_method=Path(folder, "rendezvous").as_uri(),
        rank=rank,
        world_size=n_workers,
        timeout=_SILENCE,
    )
    try:
        arguments = pickle.loads(Path(folder, "arguments").read_bytes())
        torch.save(train(rank, *arguments), Path(folder, f"{rank}.pt"))
        dist.barrier()  # nobody hangs up while another one still reads
    finally:
        dist.destroy_process_group()
