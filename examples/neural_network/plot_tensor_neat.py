"""
=========================================================
Networks that evolve: exclusive or, and balancing a pole
=========================================================

NEAT starts from networks without hidden nodes and lets weights *and* topology evolve: mutation
splits a connection by a new node, connects two nodes, or deletes either, and species protect what
is new while its weights are still poor. Here the genes of the whole population are a few tensors,
so that all networks are evaluated, mutated and crossed at once.

Two tasks show it: a regression that no network without hidden nodes can do, and a control task
without a target, where the fitness is how long a simulated pole stays up.
"""

# %%
# Exclusive or
# ------------
# Without hidden nodes nothing beats the constant 1/2, which is what linear regression predicts.
# Evolution finds networks with hidden nodes, small enough to be read as a formula; one seed of
# five stays at the constant, a strong local optimum.

import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import torch
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_squared_error

from skpapers.neural_network import NEATRegressor, NEATSearch

X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
y = np.array([0.0, 1.0, 1.0, 0.0])
runs = [
    NEATRegressor(300, 75, standardize=False, early_stopping=False, random_state=seed).fit(X, y)
    for seed in range(5)
]
solved = [model for model in runs if model.best_fitness_ > -0.01]
xor = min(solved, key=lambda model: model.n_active_connections_)  # the simplest of them
linear_error = mean_squared_error(y, LinearRegression().fit(X, y).predict(X))
print("y =", xor.formula_.evalf(3))

# %%
# A pole on a cart
# ----------------
# The equations of Barto, Sutton and Anderson (1983). The state is the position and velocity of
# the cart and the angle and angular velocity of the pole; the network pushes the cart left or
# right by 10 N every 0.02 s. A trial ends when the pole leans by more than 12 degrees or the cart
# leaves its track of 2.4 m to each side. All networks balance all their poles at the same time:
# the state is one tensor. Networks are not made larger than the task needs: the sign of a weighted
# sum will do.

STEP, N_STEPS = 0.02, 500
CART, POLE, HALF_LENGTH, GRAVITY = 1.0, 0.1, 0.5, 9.8


def push(state, force):
    """The state one step later."""
    x, speed, angle, spin = state.unbind(-1)
    sin, cos = angle.sin(), angle.cos()
    total = CART + POLE
    pull = (force + POLE * HALF_LENGTH * spin**2 * sin) / total
    turn = GRAVITY * sin - cos * pull
    turn = turn / (HALF_LENGTH * (4 / 3 - POLE * cos**2 / total))
    acceleration = pull - POLE * HALF_LENGTH * turn * cos / total
    change = torch.stack([speed, acceleration, spin, turn], dim=-1)
    return state + STEP * change


def balance(networks, start):
    """Angles over time, and how many steps each network keeps each pole up."""
    state = start.expand(len(networks), -1, -1)
    up = torch.ones(state.shape[:2], dtype=torch.bool)
    steps, angles = torch.zeros(up.shape), []
    for _ in range(N_STEPS):
        force = 10.0 * networks(state)[:, :, 0].sign()
        state = torch.where(up[:, :, None], push(state, force), state)
        up = up & (state[:, :, 0].abs() < 2.4) & (state[:, :, 2].abs() < np.pi / 15)
        steps += up
        angles.append(state[:, :, 2])
        if not up.any():
            break
    return torch.stack(angles, dim=-1), steps


def random_starts(n, seed):
    scale = torch.tensor([1.5, 0.5, 0.1, 0.5])
    uniform = torch.rand(n, 4, generator=torch.Generator().manual_seed(seed))
    return scale * (2 * uniform - 1)


starts = random_starts(10, seed=0)
search = NEATSearch(
    lambda networks: balance(networks, starts)[1].mean(dim=1),
    n_inputs=4,
    n_outputs=1,
    n_generations=30,
    pop_size=100,
    target=N_STEPS,
    device="cpu",
    random_state=0,
).run()
angles, steps = balance(search.best_network_, random_starts(50, seed=1))
print(
    f"{len(search.history_)} generations; of 50 new poles {int((steps == N_STEPS).sum())} stay up"
)

# %%
# What came out
# -------------


def draw_topology(ax, model, inputs, output):
    """Draw the connections that lead to the output, node by node from the left."""
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(inputs) + 1))
    graph.add_weighted_edges_from((int(a), int(b), w) for a, b, w in model.best_conns_)
    out = len(inputs)
    graph = graph.subgraph({*range(out + 1), *nx.ancestors(graph, out)})
    place = {key: (0.0, -i) for i, key in enumerate(range(out))}
    hidden = [key for key in nx.topological_sort(graph) if key > out]
    middle = -(out - 1) / 2
    for i, key in enumerate(hidden):
        place[key] = (i + 1.0, middle + (0.9 if i % 2 else -0.9) * (len(hidden) > 1))
    place[out] = (len(hidden) + 1.0, middle)
    functions = {int(key): "tanh" if f else "sum" for key, _, _, f in model.best_nodes_}
    functions |= {**dict(enumerate(inputs)), out: output}
    weights = np.array([w for *_, w in graph.edges(data="weight")])
    nx.draw_networkx(
        graph,
        place,
        ax=ax,
        labels={key: functions[key] for key in graph},
        node_color=["C7" if k < out else "C1" if k == out else "C0" for k in graph],
        edge_color=["C0" if w > 0 else "C3" for w in weights],
        width=np.clip(np.abs(weights), 0.5, 4),
        node_size=900,
        font_size=8,
        font_color="white",
        connectionstyle="arc3,rad=0.12",
    )
    ax.set_axis_off()
    ax.margins(0.12)


fig, axes = plt.subplots(2, 3, figsize=(13, 7.5), layout="constrained")
ax = axes[0, 0]
for seed, model in enumerate(runs):
    label = None if seed else "NEAT, five seeds"
    ax.semilogy([-row["best"] for row in model.history_], color="C0", label=label)
ax.axhline(linear_error, color="C3", linestyle="--", zorder=3, label="linear regression")
ax.set(title="Exclusive or", xlabel="generation", ylabel="mean squared error")
ax.legend(loc="lower left")

ax = axes[0, 1]
side = np.linspace(-0.25, 1.25, 80)
grid = np.stack(np.meshgrid(side, side), axis=-1)
values = xor.predict(grid.reshape(-1, 2)).reshape(80, 80)
image = ax.contourf(side, side, values, np.linspace(-0.5, 1.5, 21), cmap="RdBu_r", extend="both")
ax.scatter(*X.T, c=y, cmap="RdBu_r", edgecolors="black", s=120)
ax.set(title="Output of the best network", xlabel="$x_0$", ylabel="$x_1$")
fig.colorbar(image, ax=ax)

draw_topology(axes[0, 2], xor, ["$x_0$", "$x_1$"], "$y$")
axes[0, 2].set_title("Its topology (blue: positive weights)")

ax = axes[1, 0]
generations = np.arange(len(search.history_))
ax.plot(generations, [row["best"] * STEP for row in search.history_], label="best network")
ax.plot(generations, [row["mean"] * STEP for row in search.history_], label="mean of all")
ax.axhline(N_STEPS * STEP, color="grey", linestyle=":", label="end of the trial")
ax.set(
    title="Pole on a cart", xlabel="generation", ylabel="balanced for, in s", xticks=generations
)
ax.legend(loc="center right")

ax = axes[1, 1]
time = STEP * np.arange(angles.shape[-1])
ax.plot(time, np.degrees(angles[0].T.numpy()), color="C0", linewidth=0.5)
for bound in (-12, 12):
    ax.axhline(bound, color="C3", linestyle="--")
ax.set(title="50 new poles, best network", xlabel="time in s", ylabel="angle in degrees")

names = ["place", "speed", "angle", "spin"]
draw_topology(axes[1, 2], search, names, "push")
axes[1, 2].set_title("Its topology")
plt.show()
