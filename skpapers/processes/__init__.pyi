from ._energy import EnergyMLP as EnergyMLP
from ._line_integral import line_integral as line_integral
from ._losses import (
    denoising_score_loss as denoising_score_loss,
    implicit_score_loss as implicit_score_loss,
)
from ._mcmc import (
    metropolis_adjusted_langevin as metropolis_adjusted_langevin,
    random_walk_metropolis as random_walk_metropolis,
    unadjusted_langevin as unadjusted_langevin,
)
from ._metrics import (
    energy_distance as energy_distance,
    maximum_mean_discrepancy as maximum_mean_discrepancy,
    sliced_wasserstein_distance as sliced_wasserstein_distance,
)
from ._samplers import (
    flow_log_likelihood as flow_log_likelihood,
    probability_flow as probability_flow,
    reverse_diffusion as reverse_diffusion,
)
from ._schedules import (
    NoiseSchedule as NoiseSchedule,
    get_schedule as get_schedule,
    time_grid as time_grid,
)
from ._standardized_density import StandardizedDensity as StandardizedDensity
from ._unet import SmallUNet as SmallUNet
