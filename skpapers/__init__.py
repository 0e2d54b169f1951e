"""Machine-learning papers as scikit-learn estimators.

Each public class is the method of a paper: :func:`skpapers.papers` lists them, with the claim
that makes each paper worth using and the tests that show it. Rooms (``skpapers.kernel_methods``,
``skpapers.causal``, ...) are imported when they are first used.
"""

import lazy_loader as _lazy

from ._version import __version__ as __version__

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
__all__ += ["__version__"]
