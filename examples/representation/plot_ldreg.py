"""
LDReg: local dimension, and embeddings that keep it
===================================================

How many directions does the data have around one row? The growth of the number of neighbours with
the radius tells. Scikit-learn's PCA sees the directions of the data as a whole; the local
dimension sees the two of a sheet that is rolled up, the one of a thread, and the three of a cloud.

An embedding learnt without labels can be locally thinner than it looks. LDReg adds a term to the
loss that keeps the local dimension up.
"""

# %%
# Three pieces in one space of three dimensions. The explained variance of PCA is spread over all.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits, make_swiss_roll
from sklearn.decomposition import PCA

from skpapers.representation import LDReg, LocalIntrinsicDimension

rng = np.random.default_rng(0)
sheet = make_swiss_roll(2000, random_state=0)[0][:, [0, 2, 1]] / 14
angle = np.linspace(0, 6 * np.pi, 600)[:, None]
thread = np.hstack([2.6 + 0.5 * np.cos(angle), 0.5 * np.sin(angle), angle / 13])
cloud = rng.normal(size=(1200, 3)) * 0.3 + [5.0, 0, 0.8]
X = np.vstack([sheet, thread, cloud])
lid = LocalIntrinsicDimension(n_neighbors=40).fit_transform(X)[:, 0]
print("explained variance of PCA:", PCA().fit(X).explained_variance_ratio_.round(2))

fig = plt.figure(figsize=(12, 4), layout="constrained")
left, right = fig.subfigures(1, 2, width_ratios=[1.3, 1])
axis = left.subplots(subplot_kw={"projection": "3d", "computed_zorder": False})
drawn = axis.scatter(*X.T, c=lid, s=4, cmap="viridis", vmin=0.8, vmax=3.3)
axis.set_box_aspect((2, 0.8, 0.6), zoom=1.35)
axis.set(xticks=[], yticks=[], zticks=[])
axis.set_title("local intrinsic dimension: sheet, thread, cloud", y=1.0)
left.colorbar(drawn, ax=axis, shrink=0.6)

axis = right.subplots()
pieces = {"thread": slice(2000, 2600), "sheet": slice(0, 2000), "cloud": slice(2600, None)}
axis.boxplot([lid[rows] for rows in pieces.values()], tick_labels=pieces.keys(), showfliers=False)
for place, dimension in enumerate((1, 2, 3), start=1):
    axis.plot([place - 0.4, place + 0.4], [dimension] * 2, color="tab:red", ls="--")
axis.plot([], [], color="tab:red", ls="--", label="true dimension")
axis.set(ylabel="local intrinsic dimension", title="rows of each piece")
axis.legend()

# %%
# Digits: the geometric mean of the local dimension while an embedding is learnt. The regulariser
# sets in after five epochs. The spread of the embedding over all directions, its effective rank,
# grows along.
digits = (load_digits().data / 16)[:1200].astype(np.float32)
fig, (left, right) = plt.subplots(1, 2, figsize=(11, 3.8), layout="constrained")
ranks = {}
for beta in (0, 0.1, 1):
    model = LDReg(beta=beta, max_epochs=20, warmup_epochs=5, random_state=0).fit(digits)
    left.plot(np.arange(1, 21), model.lid_curve_, marker=".", label=f"beta = {beta}")
    ranks[f"beta = {beta}"] = model.effective_rank_
left.axvline(5.5, color="gray", ls=":")
left.set(
    xlabel="epoch",
    ylabel="local dimension",
    title="while training (SimCLR)",
    xticks=[1, 5, 10, 15, 20],
)
left.legend()
bars = right.bar(ranks.keys(), ranks.values(), color=["C0", "C1", "C2"], width=0.6)
right.bar_label(bars, fmt="%.0f")
right.set(ylabel="effective rank", title="of the embedding, 256 columns")
plt.show()
