"""What the workers of EF21 send each other: messages, packed into bytes for one collective."""

import numpy as np
import torch
import torch.distributed as dist

__all__ = ["compress", "exchange", "is_dense", "message_bytes", "pack", "unpack"]


def is_dense(n_rounds, g_init, refresh):
    """Whether whole gradients are sent in the round that follows `n_rounds` others."""
    if n_rounds == 0:
        return g_init == "gradient"
    return refresh is not None and n_rounds % refresh == 0


def compress(blocks, compressor, seed, n_rounds, workers, participation=1.0):
    """Messages of some workers for each block of shape (n_workers, n_values).

    Draws depend on the seed, the round and the number of the worker alone, so that they are the
    same wherever the worker lives. Also returned is the share of the workers that take part.
    """
    generators = None
    if compressor.random or participation < 1:
        generators = [draws(seed, n_rounds, worker) for worker in workers]
    active = 1.0
    if participation < 1:
        acts = torch.cat([torch.rand(1, generator=g) < participation for g in generators])
        active = float(acts.double().mean())
        blocks = [torch.where(acts.to(block.device)[:, None], block, 0) for block in blocks]
    return [compressor.encode(block, generators) for block in blocks], active


def draws(seed, n_rounds, worker, block=0):
    """A generator of its own for every round, worker and block."""
    words = np.random.SeedSequence([seed, n_rounds, worker, block]).generate_state(1)
    return torch.Generator().manual_seed(int(words[0]))


def message_bytes(messages):
    """Bytes of the messages of one worker."""
    return sum(part[0].nbytes for message in messages for part in message)


def exchange(messages, group=None):
    """Append the rows of all processes of the group, in the order of their ranks."""
    return unpack(gather(pack(messages), group, async_op=False), messages)


def gather(packed, group, async_op):
    """Bytes of all ranks, or (bytes to be, handle) where `async_op`."""
    everyone = [torch.empty_like(packed) for _ in range(dist.get_world_size(group))]
    handle = dist.all_gather(everyone, packed, group=group, async_op=async_op)
    return (everyone, handle) if async_op else everyone


def pack(messages):
    """Lay the parts of the messages of one worker out as bytes."""
    parts = [part for message in messages for part in message]
    return torch.cat([part.contiguous().flatten().view(torch.uint8) for part in parts])


def unpack(everyone, like):
    """Read the bytes of each worker as messages of the sizes of `like`, a row a worker."""
    everyone, start, messages = torch.stack(everyone), 0, []
    for message in like:
        parts = []
        for part in message:
            octets = everyone[:, start : start + part.nbytes].clone()  # aligned, for the view
            parts.append(octets.flatten().view(part.dtype).view(len(everyone), *part.shape[1:]))
            start += part.nbytes
        messages.append(tuple(parts))
    return messages
