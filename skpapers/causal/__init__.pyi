from ._colide import CoLiDE as CoLiDE
from ._cosmo import COSMO as COSMO
from ._linear_sem import graph_metrics as graph_metrics, make_linear_sem as make_linear_sem
