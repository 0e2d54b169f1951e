"""
=======================================
A short tone somewhere in a long series
=======================================

:class:`~skpapers.time_series.S4DClassifier` reads a series with a bank of learned damped
oscillators: each channel is a diagonal state space model, computed as one long convolution. How
the oscillators start decides what they can learn. HiPPO-LegS, whose states are the coefficients
of the past in Legendre polynomials, is not diagonal; its normal part is, and the paper's theorem
says that their kernels agree as the number of states grows.

The first panel shows that. The second shows a task: one of four tones sounds for 20 steps
somewhere in a noisy series. The third compares the accuracy with that of scikit-learn's
classifiers, which take the time steps for columns.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.integrate import cumulative_trapezoid
from scipy.special import eval_legendre
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from skpapers.time_series import S4DClassifier, S4DTransformer, s4d_init

LENGTH = 200

# %%
# Diagonal and full systems
# -------------------------
# The response of state 2 to a step input, the integral of its kernel: of the normal part, for a
# growing number of states, and of LegS.

time = np.linspace(0, 4, 400)


def normal_response(n_states, state):
    b = np.sqrt(2 * np.arange(n_states) + 1.0)
    skew = (np.triu(np.outer(b, b), 1) - np.tril(np.outer(b, b), -1)) / 2
    frequencies, vectors = np.linalg.eigh(-1j * skew)
    np.testing.assert_allclose(frequencies[n_states // 2 :], s4d_init(n_states)[0].imag)
    poles = -0.5 + 1j * frequencies
    modes = vectors[state] * (vectors.conj().T @ b / 2) / poles
    return (modes @ np.expm1(np.outer(poles, time))).real


responses = {n: normal_response(n, state=2) for n in (8, 32, 256)}
kernel = np.sqrt(5) * eval_legendre(2, 2 * np.exp(-time) - 1) * np.exp(-time)
limit = cumulative_trapezoid(kernel, time, initial=0)

# %%
# The task
# --------

rng = np.random.RandomState(0)


def short_tone(n_samples):
    y = rng.randint(4, size=n_samples)
    X = 0.3 * rng.standard_normal((n_samples, LENGTH))
    onset = rng.randint(LENGTH - 20, size=n_samples)
    t = np.arange(LENGTH) - onset[:, None]
    phase = rng.uniform(0, 2 * np.pi, size=(n_samples, 1))
    tone = np.sin(2 * np.pi * 0.05 * (y[:, None] + 1) * t + phase)
    return (X + tone * ((t >= 0) & (t < 20))).astype(np.float32), y


X, y = short_tone(400)
X_test, y_test = short_tone(400)

# %%
# Accuracy
# --------

models = {
    "S4DClassifier": S4DClassifier(32, n_layers=2, max_epochs=8, batch_size=32, random_state=0),
    "S4DTransformer\n+ ridge": make_pipeline(
        S4DTransformer(random_state=0), StandardScaler(), RidgeClassifierCV(np.logspace(-2, 4, 7))
    ),
    "SVC (RBF)": SVC(gamma="scale"),
    "Gradient boosting": HistGradientBoostingClassifier(max_iter=30),
    "Ridge": RidgeClassifierCV(np.logspace(-2, 4, 7)),
}
accuracy = {name: model.fit(X, y).score(X_test, y_test) for name, model in models.items()}

# %%
fig, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
for (n_states, response), shade in zip(responses.items(), (0.35, 0.6, 0.9)):
    left.plot(time, response, color=plt.cm.Blues(shade), label=f"normal part, {n_states} states")
left.plot(time, limit, "k--", lw=1, label="LegS")
left.set(
    xlabel="time", ylabel="response of state 2 to a step", title="Diagonal systems reach LegS"
)
left.legend(frameon=False)
for label in range(4):
    middle.plot(X[y == label][0] + 4 * label, lw=0.8, color="0.3")
middle.set(
    xlabel="time step",
    yticks=[0, 4, 8, 12],
    yticklabels=["0.05", "0.10", "0.15", "0.20"],
    ylabel="class: cycles per step",
    title="One series of each class",
)
names = list(accuracy)[::-1]
bars = right.barh(
    names, [accuracy[n] for n in names], color=["C0" if "S4D" in n else "0.7" for n in names]
)
right.bar_label(bars, fmt="%.2f", padding=3)
right.axvline(0.25, color="k", ls=":", lw=1)
right.text(0.26, 4.55, "chance", fontsize=8)
right.set(xlim=(0, 1.12), ylim=(-0.6, 4.8), xlabel="accuracy on new series", title="Which tone?")
plt.show()
