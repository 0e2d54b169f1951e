"""What diffusion adds in torch: training a low-rank denoiser, and the probability flow."""

import math

import torch

from skpapers.neural_network import torch_generator
from skpapers.processes import get_schedule, probability_flow, time_grid
from skpapers.utils import qr_factor

__all__ = ["diffusion_times", "noise_level", "reverse_flow", "train_denoiser"]

_LR = 0.02
_BATCH = 512


def diffusion_times(schedule):
    """The schedule of a name: variance preserving, or of growing variance as in EDM."""
    if schedule == "vp":
        return get_schedule("vp")
    return get_schedule("ve", sigma_min=0.002, sigma_max=80.0)


def noise_level(schedule, t):
    """Scale of the signal and standard deviation of the noise at a time."""
    schedule = diffusion_times(schedule)
    t = torch.tensor(float(t), dtype=torch.float64)
    return float(schedule.alpha(t)), float(schedule.sigma(t))


def low_rank_denoiser(bases, log_weights, X, scale, sigma):
    """Posterior mean of clean rows for unit variances; bases padded by zeros, (k, n, d)."""
    Z = torch.einsum("in,knd->kid", X, bases)
    ranks = (bases != 0).any(dim=1).sum(dim=1)
    total = scale**2 + sigma**2
    energy = 0.5 * scale**2 / (sigma**2 * total) * (Z**2).sum(dim=2).T
    logits = log_weights + energy - 0.5 * ranks * torch.log(total / sigma**2)
    Z = Z * torch.softmax(logits, dim=1).T[:, :, None]
    return scale / total * torch.einsum("kid,knd->in", Z, bases)


def train_denoiser(X, bases, weights, schedule, max_iter, rng, device):
    """Minimise the denoising loss over the bases, by Adam steps and QR retractions.

    Returns
    -------
    bases : list of ndarray of shape (n_features, d_k)
        Orthonormal bases.
    losses : list of float
        Mean squared error of the denoiser in each step.
    """
    generator = torch_generator(rng)
    schedule = diffusion_times(schedule)
    X = torch.as_tensor(X, dtype=torch.float64, device=device)
    log_weights = torch.as_tensor(weights, dtype=torch.float64, device=device).log()
    bases = [
        torch.tensor(b, dtype=torch.float64, device=device, requires_grad=True) for b in bases
    ]
    optimizer = torch.optim.Adam(bases, lr=_LR)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max_iter)
    losses = []
    for _ in range(max_iter):
        rows = torch.randint(len(X), (min(_BATCH, len(X)),), generator=generator).to(device)
        t = torch.rand(len(rows), 1, generator=generator, dtype=X.dtype)
        t = schedule.t_min + (schedule.t_max - schedule.t_min) * t
        noise = torch.randn(len(rows), X.shape[1], generator=generator, dtype=X.dtype).to(device)
        scale, sigma = schedule.alpha(t).to(device), schedule.sigma(t).to(device)
        denoised = low_rank_denoiser(
            padded(bases), log_weights, scale * X[rows] + sigma * noise, scale, sigma
        )
        loss = ((denoised - X[rows]) ** 2).sum(dim=1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        cosine.step()
        losses.append(float(loss.detach()))
        with torch.no_grad():
            for basis in bases:
                basis.copy_(torch.as_tensor(qr_factor(basis.cpu().numpy())))
    return [basis.detach().cpu().numpy() for basis in bases], losses


def padded(bases):
    width = max(basis.shape[1] for basis in bases)
    return torch.stack([torch.nn.functional.pad(b, (0, width - b.shape[1])) for b in bases])


def reverse_flow(mixture, n_samples, schedule, n_steps, rng):
    """Clean rows from noise, by the probability flow with the score in closed form."""
    schedule = diffusion_times(schedule)
    start = torch.tensor(schedule.t_max, dtype=torch.float64)
    spread = max(float(variances.max()) for variances in mixture.variances)
    width = math.sqrt(
        float(schedule.alpha(start)) ** 2 * spread + float(schedule.sigma(start)) ** 2
    )
    noise = width * rng.normal(size=(n_samples, mixture.n_features))

    def score(x, t):
        found = mixture.score(x.numpy(), float(schedule.alpha(t)), float(schedule.sigma(t)))
        return torch.from_numpy(found)

    spacing = "log" if schedule.t_min > 0 else "uniform"
    times = time_grid(schedule, n_steps, spacing=spacing)
    return probability_flow(score, torch.from_numpy(noise), schedule, times).numpy()
