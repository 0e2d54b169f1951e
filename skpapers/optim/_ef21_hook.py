"""EF21 inside DistributedDataParallel, below any optimizer."""

import torch
import torch.distributed as dist

from ._compressed_exchange import draws, gather, is_dense, message_bytes, pack, unpack
from ._compressors import Identity, TopK
from ._error_feedback import EF21_CONSTRAINTS
from ._foreach import check_options

__all__ = ["EF21State", "ef21_hook"]


class EF21State:
    """What a process remembers between the calls of :func:`ef21_hook`.

    Parameters
    ----------
    params : iterable of torch.nn.Parameter
        Parameters of the module that is trained, in the same order in every process.
    compressor : Compressor, default=None
        What is sent; None is ``TopK(0.01)``.
    process_group : torch.distributed.ProcessGroup, default=None
        The workers; None is the default group.
    g_init : {"gradient", "zero"}, default="gradient"
        First estimate: the whole gradient, sent uncompressed, or zero.
    refresh : int, default=1000
        Every so many rounds whole gradients are sent; None for never.
    seed : int, default=0
        Seed of random compressors; the same in all processes.

    Attributes
    ----------
    bytes_sent : int
        Bytes that this process has sent so far.
    dense_bytes : int
        Bytes that it would have sent uncompressed.

    Notes
    -----
    The memory is that of two gradients. It belongs to parameters, not to buckets, which
    DistributedDataParallel makes anew after the first iteration. A hook sees gradients only: the
    optimizer above it is free (SGD, Adam), and the theory is that of SGD.

    Examples
    --------
    >>> import torch
    >>> from skpapers.optim import EF21State, TopK, ef21_hook
    >>> module = torch.nn.Linear(3, 1)
    >>> state = EF21State(module.parameters(), compressor=TopK(0.1))
    >>> def wrap(module):  # in each process, once its group is initialised
    ...     wrapped = torch.nn.parallel.DistributedDataParallel(module)
    ...     wrapped.register_comm_hook(state, ef21_hook)
    ...     return wrapped
    """

    def __init__(
        self,
        params,
        compressor=None,
        process_group=None,
        g_init="gradient",
        refresh=1000,
        seed=0,
    ):
        self.compressor = TopK() if compressor is None else compressor
        options = {"compressor": compressor, "g_init": g_init, "refresh": refresh, "seed": seed}
        check_options(options, EF21_CONSTRAINTS, "EF21State")
        self.process_group = process_group
        self.g_init = g_init
        self.refresh = refresh
        self.seed = seed
        self.bytes_sent, self.dense_bytes = 0, 0
        self._places = {p: place for place, p in enumerate(params)}
        self._memory = {}

    def state_dict(self):
        """Return the estimates of every parameter and the counters.

        Returns
        -------
        dict
            What :meth:`load_state_dict` takes; it differs between processes.
        """
        counters = {"bytes_sent": self.bytes_sent, "dense_bytes": self.dense_bytes}
        memory = {
            place: {k: v.clone() if torch.is_tensor(v) else v for k, v in memory.items()}
            for place, memory in self._memory.items()
        }
        return {"counters": counters, "memory": memory}

    def load_state_dict(self, state_dict):
        """Continue from a state.

        Parameters
        ----------
        state_dict : dict
            What :meth:`state_dict` of this process returned.
        """
        vars(self).update(state_dict["counters"])
        self._memory = {place: dict(memory) for place, memory in state_dict["memory"].items()}

    def _recall(self, parameter, gradient):
        """Memory of a parameter, emptied where whole gradients are sent next."""
        place = self._places[parameter]
        if place not in self._memory:
            shape = gradient.shape
            memory = {"estimate": gradient.new_zeros(shape), "mean": gradient.new_zeros(shape)}
            self._memory[place] = memory | {"rounds": 0, "place": place}
        memory = self._memory[place]
        if is_dense(memory["rounds"], self.g_init, self.refresh):
            memory["estimate"].zero_()
            memory["mean"].zero_()
        return memory

    def _send(self, memory, gradient):
        """Message of one parameter, after which this process has heard of it itself."""
        dense = is_dense(memory["rounds"], self.g_init, self.refresh)
        compressor = Identity() if dense else self.compressor
        estimate = memory["estimate"].view(1, -1)
        keys = memory["rounds"], dist.get_rank(self.process_group), memory["place"]
        generators = [draws(self.seed, *keys)] if compressor.random else None
        message = compressor.encode(gradient.reshape(1, -1) - estimate, generators)
        compressor.add_(estimate, message)
        memory["rounds"] += 1
        self.bytes_sent += message_bytes([message])
        self.dense_bytes += gradient.nbytes
        return compressor, message

    def _hear(self, memory, compressor, message):
        """Add the mean of everyone's messages to the mean of the estimates, and return it."""
        n_workers = len(message[0])
        weights = memory["mean"].new_full((n_workers,), 1 / n_workers)
        compressor.add_sum_(memory["mean"].view(-1), message, weights)
        return memory["mean"]


@torch.no_grad()
def ef21_hook(state, bucket):
    """Put the mean of the EF21 estimates in place of the mean gradient.

    To be registered by ``DistributedDataParallel.register_comm_hook(state, ef21_hook)``.

    Parameters
    ----------
    state : EF21State
        Memory of this process.
    bucket : torch.distributed.GradBucket
        Gradients of some parameters.

    Returns
    -------
    torch.futures.Future of torch.Tensor
        The bucket with the means; what is sent travels while the backward pass goes on.

    References
    ----------
    .. [1] P. Richtarik, E. Gasanov, K. Burlachenko, "Error Feedback Reloaded: From Quadratic to
       Arithmetic Mean of Smoothness Constants", ICLR 2024, arXiv:2402.10774, algorithm 1.

    Examples
    --------
    See :class:`EF21State`.

    >>> from skpapers.optim import ef21_hook
    >>> ef21_hook.__name__
    'ef21_hook'
    """
    gradients = bucket.gradients()
    memories = [state._recall(p, g) for p, g in zip(bucket.parameters(), gradients)]
    sent = [state._send(memory, gradient) for memory, gradient in zip(memories, gradients)]
    compressors, messages = zip(*sent)
    everyone, handle = gather(pack(messages), state.process_group, async_op=True)

    def finish(future):
        future.value()  # raises what went wrong on the way
        heard = unpack(everyone, messages)
        for memory, compressor, message, gradient in zip(memories, compressors, heard, gradients):
            gradient.copy_(state._hear(memory, compressor, message))
        return bucket.buffer()

    return handle.get_future().then(finish)
