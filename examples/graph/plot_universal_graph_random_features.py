"""
================================================
Kernels on the nodes of a graph, without a cube
================================================

A kernel on the nodes of a graph, such as the diffusion kernel, is a function of the whole
adjacency matrix: exact evaluation costs the cube of the number of nodes.
:class:`~skpapers.graph.GraphRandomFeatures` replaces it by sparse features made of random walks,
whose scalar products estimate the kernel without bias.

The three panels show that the error falls as the square root of the number of walks for every
kernel, that the cost stays linear where the exact kernel's explodes, and what the features are
good for: classifying digits from a few labels along a nearest-neighbour graph.
"""

from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
from scipy import sparse
from scipy.linalg import expm
from sklearn.datasets import load_digits
from sklearn.kernel_approximation import RBFSampler
from sklearn.linear_model import LogisticRegression
from sklearn.semi_supervised import LabelSpreading

from skpapers.graph import GraphRandomFeatures, graph_kernel
from skpapers.structure import Graph, NodeView

# %%
# Error
# -----
# A random graph of 60 nodes and four kernels. Two independent ensembles of walks make the estimate
# unbiased on the diagonal as well; the dashed line falls as the inverse square root.


def random_graph(n_nodes, degree, seed=0):
    ends = np.random.RandomState(seed).randint(n_nodes, size=(2, n_nodes * degree // 2))
    rows, columns = ends[:, ends[0] != ends[1]]
    graph = sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=(n_nodes, n_nodes))
    graph = (graph + graph.T).tocsr()
    graph.data[:] = 1
    return graph


kernels = {
    "diffusion": "exp(U)",
    "regularized_laplacian": r"(I − U)$^{-2}$",
    "random_walk": r"(I + U)$^{2}$",
    "cosine": "cos U + sin U",
}
sizes = np.array([4, 16, 64, 256])
small = random_graph(60, 8)
nodes = NodeView(Graph(None, small))
errors = {}
for kernel in kernels:
    exact = graph_kernel(small, kernel, sigma=0.7)
    errors[kernel] = []
    for n_walks in sizes:
        estimates = (
            GraphRandomFeatures(
                kernel, n_walks=n_walks, sigma=0.7, independent=True, random_state=seed
            )
            .fit(nodes)
            .kernel_matrix()
            for seed in range(5)
        )
        relative = [np.linalg.norm(K - exact) / np.linalg.norm(exact) for K in estimates]
        errors[kernel].append(np.mean(relative))

# %%
# Cost
# ----
# Average degree 10, diffusion kernel, 200 walks a node: an error of 5 %.

seconds = {"exact": {}, "features": {}}
for n_nodes in (250, 500, 1000, 2000, 4000, 16000):
    graph = random_graph(n_nodes, 10)
    features = GraphRandomFeatures(
        n_walks=200, halt_probability=0.3, sparse_output=True, random_state=0
    )
    start = perf_counter()
    features.fit(NodeView(Graph(None, graph)))
    seconds["features"][n_nodes] = perf_counter() - start
    if n_nodes <= 1000:
        dense = graph.toarray() / 10
        start = perf_counter()
        expm(dense)
        seconds["exact"][n_nodes] = perf_counter() - start

# %%
# Use
# ---
# All digits form a nearest-neighbour graph; a few of them have a label. Features of the
# regularised Laplacian kernel carry a label along the graph, random features of the Gaussian
# kernel do not. Label spreading, scikit-learn's own method on such graphs, is the reference; the
# features serve any linear model, regression and clustering too.

X, y = load_digits(return_X_y=True)
graph_features = GraphRandomFeatures(
    "regularized_laplacian",
    sigma=np.sqrt(0.98),
    halt_probability=0.03,
    n_walks=30,
    n_neighbors=7,
    sparse_output=True,
    random_state=0,
).fit_transform(X)
gaussian_features = RBFSampler(gamma=0.001, n_components=500, random_state=0).fit_transform(X)
n_labels = np.array([20, 50, 100, 200])
scores = {name: [] for name in ("graph features", "label spreading", "Gaussian features")}
for n in n_labels:
    chosen = np.random.RandomState(0).permutation(len(X))
    train, test = chosen[:n], chosen[n:]
    for name, Z in (("graph features", graph_features), ("Gaussian features", gaussian_features)):
        model = LogisticRegression(C=10, max_iter=500).fit(Z[train], y[train])
        scores[name].append(model.score(Z[test], y[test]))
    partial = np.full(len(y), -1)
    partial[train] = y[train]
    spreading = LabelSpreading(kernel="knn", n_neighbors=7).fit(X, partial)
    scores["label spreading"].append(np.mean(spreading.transduction_[test] == y[test]))

# %%
# Figure
# ------

figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
for kernel, label in kernels.items():
    axes[0].loglog(sizes, errors[kernel], "o-", label=label)
axes[0].loglog(sizes, 0.6 * errors["diffusion"][0] * np.sqrt(4 / sizes), "k--", label="slope −1/2")
axes[0].set(xlabel="walks from each node", ylabel="relative error of the kernel")
axes[0].set_title("unbiased: the error falls as the square root")
axes[0].set_ylim(top=1.0)
axes[0].legend(ncols=2)
for name, style in (("exact", "s-"), ("features", "o-")):
    label = "dense matrix exponential" if name == "exact" else "graph random features (5 % error)"
    axes[1].loglog(list(seconds[name]), list(seconds[name].values()), style, label=label)
axes[1].set(xlabel="nodes", ylabel="seconds")
axes[1].set_title("linear cost instead of cubic")
axes[1].legend()
for name, style in zip(scores, ("o-", "s--", "^:")):
    axes[2].plot(n_labels, scores[name], style, label=name)
axes[2].set(xlabel="labelled digits", ylabel="accuracy on the others", xscale="log")
axes[2].set_xticks(n_labels, n_labels)
axes[2].minorticks_off()
axes[2].set_title("labels travel along the graph")
axes[2].legend()
plt.show()
