"""
A classifier that is sure and wrong
===================================

To abstain where the largest probability is low does not help where a classifier errs without
doubt. A rejector learns from its errors where that is, and leaves the classifier as it is.
"""

# %%
# Labels follow the sum of the first two features, but where the third one exceeds 0.5, most are
# flipped. A logistic regression cannot know.
import matplotlib.pyplot as plt
import numpy as np

from skpapers.calibration import FixedPredictorRejector, coverage_risk_curve

rng = np.random.default_rng(0)


def draw(n_samples):
    X = rng.normal(size=(n_samples, 6))
    flipped = (X[:, 2] > 0.5) & (rng.uniform(size=n_samples) < 0.8)
    return X, ((X[:, 0] + X[:, 1] > 0) ^ flipped).astype(int)


(X, y), (X_test, y_test) = draw(3000), draw(5000)
models = {
    kind: FixedPredictorRejector(rejector=kind, cost=0.2, max_iter=40, random_state=0).fit(X, y)
    for kind in ("linear", "mlp")
}
classifier = models["mlp"].estimator_
error = classifier.predict(X_test) != y_test
confidences = {
    "largest probability": classifier.predict_proba(X_test).max(axis=1),
    "linear rejector": models["linear"].rejection_function(X_test),
    "network as rejector": models["mlp"].rejection_function(X_test),
}

# %%
# Left: what the classifier gets wrong, and what is rejected. Middle: the error among the accepted
# rows as more of them are accepted. Right: the least loss for each cost of a rejection.
fig, axes = plt.subplots(1, 3, figsize=(14, 4.3), layout="constrained")
shown = np.arange(len(error)) < 1200
accepted = models["mlp"].accept(X_test)
styles = [(True, False, "C0", "accepted, right"), (True, True, "C3", "accepted, wrong")]
styles += [(False, False, "0.75", "rejected, right"), (False, True, "0.35", "rejected, wrong")]
for keep, wrong, color, label in styles:
    rows = shown & (accepted == keep) & (error == wrong)
    score = X_test[rows, 0] + X_test[rows, 1]
    axes[0].scatter(score, X_test[rows, 2], s=8, color=color, label=label)
axes[0].set(xlabel="what the classifier sees: sum of two features", ylabel="third feature")
axes[0].set(title="Rejected by the network, cost 0.2", ylim=(-3.5, 5.2))
axes[0].legend(fontsize="small", ncols=2, loc="upper center")
costs = np.linspace(0.01, 0.5, 50)
for (name, confidence), style in zip(confidences.items(), ("--", "-", "-")):
    coverage, risk, _ = coverage_risk_curve(error, confidence)
    axes[1].plot(coverage[50:], risk[50:], style, label=name)
    losses = coverage * risk + costs[:, None] * (1 - coverage)
    axes[2].plot(costs, np.minimum(losses.min(axis=1), costs), style, label=name)
axes[2].plot(costs, np.minimum(costs, error.mean()), ":", color="0.5", label="all or nothing")
axes[1].set(xlabel="share accepted", ylabel="error among these", title="Coverage and error")
axes[2].set(xlabel="cost of a rejection", ylabel="rejection loss", title="Best threshold")
for axis in axes[1:]:
    axis.set_ylim(0, None)
    axis.legend(fontsize="small")
plt.show()
