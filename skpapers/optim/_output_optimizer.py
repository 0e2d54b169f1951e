"""Base of the optimizers that ask for the outputs of a network and the loss as a function."""

from torch.optim import Optimizer

from ._foreach import check_options

__all__ = ["OutputOptimizer"]


class OutputOptimizer(Optimizer):
    """An optimizer whose closure returns ``(outputs, loss_function)``.

    Subclasses name the constraints of their options in `_constraints`, and in `_own` those that a
    group of parameters may have of its own: steps in the space of the outputs know no groups.
    """

    needs_outputs = True  # what the closure returns
    width_kind = "sgd"
    _constraints = {}
    _own = frozenset()
    _module = None

    def __init__(self, params, options):
        self._check(options)
        super().__init__(params, options)

    @classmethod
    def from_module(cls, module, **options):
        """Make the optimizer of a whole module, for shortcuts that must know it.

        Parameters
        ----------
        module : torch.nn.Module
            The network, called with one tensor, whose output the closure must return.
        **options : dict
            Options of the optimizer.

        Returns
        -------
        torch.optim.Optimizer
            The optimizer, of this class.
        """
        optimizer = cls([p for p in module.parameters() if p.requires_grad], **options)
        optimizer._module = module
        return optimizer

    def __getstate__(self):
        return super().__getstate__() | {"_module": self._module}

    def add_param_group(self, param_group):
        """Add a group of parameters.

        Parameters
        ----------
        param_group : dict
            The parameters, under ``"params"``, and the options that are the group's own.
        """
        self._check(self.defaults | param_group)
        first = self.param_groups[0] if self.param_groups else {}
        shared = first.keys() & self._constraints.keys() - self._own
        other = sorted(k for k in shared if param_group.get(k, first[k]) != first[k])
        if other:
            raise ValueError(
                f"{', '.join(other)} of {type(self).__name__} must be the same in all groups of "
                "parameters: the steps are made in the space of the outputs"
            )
        super().add_param_group(param_group)

    def _check(self, options):
        """Raise a ValueError that names the first option that is not valid."""
        check_options(options, self._constraints, type(self).__name__)
