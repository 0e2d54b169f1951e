from ._lars import LARS as LARS
