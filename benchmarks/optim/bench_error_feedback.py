"""The EF21 hook against torch's own under DDP: four gloo processes on one machine.

This process is rank 0; the three others are told by a broadcast what to run next.
"""

import contextlib
import tempfile
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel

from benchmarks._harness import Case
from skpapers.neural_network import build_module, make_mlp
from skpapers.optim import EF21State, TopK, ef21_hook

N_WORKERS, N_STEPS, N_WARM_UP = 4, 30, 3
SIZES = 500, 1000, 500  # 1,001,500 parameters
RATIO = 0.01


def cases():
    with workers() as trainers:
        for peer, label in (
            ("plain", "DistributedDataParallel"),
            ("fp16", "fp16_compress_hook"),
            ("power", "powerSGD_hook, rank 1"),
        ):
            yield Case(
                name=f"ef21_hook, top {RATIO:.0%}",
                size=f"10^6 float32 parameters, {N_WORKERS} gloo processes, {N_STEPS} steps",
                peer_name=label,
                ours=lambda: command(trainers, "ef21"),
                peer=lambda peer=peer: command(trainers, peer),
                accuracy=lambda trained: trained["bytes"],
                metric="bytes of the gradient a step",
                note="loopback on 2 cores: bytes are cheap here, and processes share the cores",
            )


class Trainer:
    """A network under DDP with one of the hooks."""

    def __init__(self, hook):
        make = lambda: make_mlp(SIZES[0], SIZES[1:-1], SIZES[-1])  # noqa: E731
        self.module = build_module(make, torch.Generator().manual_seed(0))
        # one bucket: over gloo the two rounds of PowerSGD must not overtake each other
        self.wrapped = DistributedDataParallel(self.module, bucket_cap_mb=100)
        self.hook, self.state = hook, None
        n_bytes = 4 * sum(p.numel() for p in self.module.parameters())
        self.bytes = {"plain": n_bytes, "fp16": n_bytes // 2}.get(hook)
        if hook == "ef21":
            self.state = EF21State(self.module.parameters(), TopK(RATIO))
            self.wrapped.register_comm_hook(self.state, ef21_hook)
        elif hook == "fp16":
            self.wrapped.register_comm_hook(None, fp16_compress_hook)
        elif hook == "power":
            state = PowerSGDState(None, start_powerSGD_iter=2, min_compression_rate=2)
            self.wrapped.register_comm_hook(state, powerSGD_hook)
            vectors = (p for p in self.module.parameters())
            self.bytes = 4 * sum(sum(p.shape) for p in vectors)
        self.optimizer = torch.optim.SGD(self.module.parameters(), 0.01)
        generator = torch.Generator().manual_seed(dist.get_rank())
        self.X = torch.randn(32, SIZES[0], generator=generator)
        self.train(N_WARM_UP)

    def train(self, n_steps=N_STEPS):
        for _ in range(n_steps):
            self.optimizer.zero_grad()
            (self.wrapped(self.X) - self.X).square().mean().backward()
            self.optimizer.step()
        if self.state is not None:
            self.bytes = sum(
                self.state.compressor.n_kept(p.numel()) * 8 for p in self.module.parameters()
            )
        return {"bytes": self.bytes}


HOOKS = ("ef21", "plain", "fp16", "power")


@contextlib.contextmanager
def workers():
    """Rank 0 of a group whose other processes obey :func:`command`."""
    with tempfile.TemporaryDirectory() as folder:
        others = mp.spawn(obey, (folder,), nprocs=N_WORKERS - 1, join=False, daemon=True)
        try:
            join(folder, 0)
            yield {hook: Trainer(hook) for hook in HOOKS}
            dist.broadcast(torch.tensor([-1]), 0)
        finally:
            dist.destroy_process_group()
            for process in others.processes:
                process.join(10)
                process.kill()


def join(folder, rank):
    torch.set_num_threads(1)
    method = Path(folder, "rendezvous").as_uri()
    options = {"rank": rank, "world_size": N_WORKERS, "timeout": timedelta(seconds=60)}
    dist.init_process_group("gloo", init_method=method, **options)


def obey(index, folder):
    join(folder, index + 1)
    try:
        trainers = {hook: Trainer(hook) for hook in HOOKS}
        while (number := told()) >= 0:
            trainers[HOOKS[number]].train()
    finally:
        dist.destroy_process_group()


def told():
    number = torch.zeros(1, dtype=torch.int64)
    dist.broadcast(number, 0)
    return int(number)


def command(trainers, hook):
    dist.broadcast(torch.tensor([HOOKS.index(hook)]), 0)
    return trainers[hook].train()
