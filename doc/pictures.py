"""Draw the committed pictures: ``python doc/pictures.py [SLUG ...]``.

Runs the examples and saves the first figure of each as ``doc/pictures/<slug>.png``, then puts six
of them together as ``overview.png``.
"""

import runpy
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).parents[1]


def draw(path):
    plt.close("all")
    runpy.run_path(str(path))
    figure = plt.figure(plt.get_fignums()[0])
    slug = path.stem.removeprefix("plot_")
    figure.savefig(ROOT / f"doc/pictures/{slug}.png", dpi=70, pil_kwargs={"optimize": True})


OVERVIEW = ["svcca", "functorial_clustering", "cosmo", "stkr", "perturbed_stein_test", "s4d"]


def overview():
    """Put six pictures into one."""
    figure, axes = plt.subplots(3, 2, figsize=(14, 9.5), layout="constrained")
    for slug, axis in zip(OVERVIEW, axes.flat):
        axis.imshow(plt.imread(ROOT / f"doc/pictures/{slug}.png"), interpolation="lanczos")
        axis.set_title(slug, fontsize=15, fontweight="bold")
        axis.axis("off")
    figure.savefig(ROOT / "doc/pictures/overview.png", dpi=70, pil_kwargs={"optimize": True})


if __name__ == "__main__":
    for example in sorted(ROOT.glob("examples/*/plot_*.py")):
        if not sys.argv[1:] or example.stem.removeprefix("plot_") in sys.argv[1:]:
            draw(example)
    if not sys.argv[1:] or "overview" in sys.argv[1:]:
        overview()
