"""Predictions that mean what they say, and predictors that know when to abstain."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
