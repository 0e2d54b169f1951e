from . import discovery as discovery
from ._catalogue import Paper as Paper, papers as papers
from ._optional import import_optional as import_optional
from ._random import check_random_state as check_random_state, draw_seed as draw_seed
