"""The picture of the report: score with its spread against fit time, as inline SVG."""

import html
import math

import numpy as np

LEFT, RIGHT, TOP, BOTTOM = 58, 16, 16, 52
RADIUS = 10
_VALUE_WIDTH = 64  # of a score written beside a dot


def scatter(rows, score_name, width=720, height=420):
    """Draw one numbered dot a method; the line joins the best score for the time spent."""
    if not rows:
        return ""
    right, bottom = width - RIGHT, height - BOTTOM
    x, x_ticks = _time_axis([row["fit_seconds"] for row in rows], right)
    y, y_ticks = _score_axis(rows, bottom)
    parts = [*_grid(x, x_ticks, y, y_ticks, right, bottom), *_labels(score_name, right, bottom)]
    parts.append(_front(rows, x, y, right))
    parts += [_spread(row, x, y) for row in rows]
    places = [(x(row["fit_seconds"]), y(row["score"])) for row in rows]
    places = _spread_out(places, right, bottom)
    for rank in reversed(range(len(rows))):  # the best on top
        parts.append(_dot(rank + 1, rows[rank], places[rank], places, x, y, bottom))
    title = f"<title>{html.escape(score_name)} against fit time</title>"
    return f'<svg viewBox="0 0 {width} {height}" role="img">{title}{"".join(parts)}</svg>'


def _time_axis(seconds, right):
    """Logarithmic, with at least a factor of ten."""
    low, high = (math.log10(max(value, 1e-5)) for value in (min(seconds), max(seconds)))
    middle, half = (low + high) / 2, max((high - low) / 2, 0.5) * 1.08
    low, high = middle - half, middle + half
    ticks = [10.0**k for k in range(math.ceil(low), math.floor(high) + 1)]
    span = right - LEFT
    return lambda s: LEFT + span * (math.log10(max(s, 1e-5)) - low) / (high - low), ticks


def _score_axis(rows, bottom):
    """Linear; scores far below the others are drawn at the bottom edge."""
    scores = np.array([row["score"] for row in rows])
    spread = np.array([row["score_std"] for row in rows])
    median = np.median(scores)
    reach = 3 * max(scores.max() - median, 0.05)
    low = max((scores - spread).min(), median - reach)
    high = min((scores + spread).max(), median + reach)
    margin = 0.06 * max(high - low, 1e-3)
    low, high = low - margin, high + margin
    step = _nice_step((high - low) / 5)
    ticks = np.arange(math.ceil(low / step), math.floor(high / step) + 1) * step

    def place(score):
        return min(max(bottom - (bottom - TOP) * (score - low) / (high - low), TOP), bottom)

    return place, ticks


def _nice_step(step):
    power = 10.0 ** math.floor(math.log10(step))
    return power * min(m for m in (1, 2, 5, 10) if m * power >= step)


def _grid(x, x_ticks, y, y_ticks, right, bottom):
    for tick in x_ticks:
        at = f"{x(tick):.1f}"
        yield f'<line class="grid" x1="{at}" x2="{at}" y1="{TOP}" y2="{bottom}"/>'
        yield _text("tick", "middle", f'x="{at}" y="{bottom + 18}"', _seconds(tick))
    for tick in y_ticks:
        at = f"{y(tick):.1f}"
        yield f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{at}" y2="{at}"/>'
        yield _text("tick", "end", f'x="{LEFT - 6}" y="{y(tick) + 4:.1f}"', f"{tick:.6g}")


def _seconds(value):
    return f"{value * 1000:g} ms" if value < 1 else f"{value:g} s"


def _labels(score_name, right, bottom):
    at = f'x="{(LEFT + right) / 2}" y="{bottom + 42}"'
    yield _text("axis", "middle", at, "seconds to fit (logarithmic)")
    at = f'transform="translate(14 {(TOP + bottom) / 2}) rotate(-90)"'
    yield _text("axis", "middle", at, html.escape(score_name))


def _text(kind, anchor, at, text):
    return f'<text class="{kind}" text-anchor="{anchor}" {at}>{text}</text>'


def _front(rows, x, y, right):
    """Staircase of the best score reached within a time."""
    points, best = [], -math.inf
    for row in sorted(rows, key=lambda row: row["fit_seconds"]):
        if row["score"] > best:
            if points:
                points.append((x(row["fit_seconds"]), y(best)))
            best = row["score"]
            points.append((x(row["fit_seconds"]), y(best)))
    points.append((right, y(best)))
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    return f'<polyline class="front" points="{path}"/>'


def _spread_out(places, right, bottom):
    """Push numbered dots that cover each other apart; the bars stay where the numbers are."""
    points = np.array(places, dtype=float)
    rng = np.random.RandomState(0)
    points += rng.uniform(-0.5, 0.5, points.shape)
    for _ in range(200):
        gaps = points[:, None] - points[None]
        distance = np.linalg.norm(gaps, axis=2) + np.eye(len(points)) * 1e9
        push = np.maximum(2 * RADIUS + 1 - distance, 0) / distance
        if not push.any():
            break
        points += 0.3 * (gaps * push[:, :, None]).sum(axis=1)
        points[:, 0] = np.clip(points[:, 0], LEFT + RADIUS, right - RADIUS)
        points[:, 1] = np.clip(points[:, 1], TOP + RADIUS, bottom - RADIUS)
    return points


def _spread(row, x, y):
    """Vertical bar of one standard deviation to either side."""
    at = f"{x(row['fit_seconds']):.1f}"
    low, high = (y(row["score"] + sign * row["score_std"]) for sign in (-1, 1))
    return (
        f'<line class="spread {row["origin"]}" x1="{at}" x2="{at}" '
        f'y1="{low:.1f}" y2="{high:.1f}"/>'
    )


def _dot(rank, row, place, places, x, y, bottom):
    """Numbered circle, with a line to its true place if it had to move."""
    cx, cy = (f"{value:.1f}" for value in place)
    name = html.escape(row["method"])
    score = f"{row['score']:.3f} ± {row['score_std']:.3f}"
    start = f'x1="{x(row["fit_seconds"]):.1f}" y1="{y(row["score"]):.1f}"'
    return (
        f'<a href="#m{rank}" class="dot {row["origin"]}">'
        f"<title>{rank}. {name}: {score}, {row['fit_seconds']:.3g} s</title>"
        f'<line class="leader" {start} x2="{cx}" y2="{cy}"/>'
        f'<circle cx="{cx}" cy="{cy}" r="{RADIUS}"/>'
        + _text("rank", "middle", f'x="{cx}" y="{place[1] + 3.8:.1f}"', rank)
        + f"{_off_scale(row, place, places, y, bottom)}</a>"
    )


def _off_scale(row, place, places, y, bottom):
    """Say the score of a dot that lies below the picture, where no other dot is in the way."""
    ahead = places - place
    crowded = (ahead[:, 0] > 0) & (ahead[:, 0] < _VALUE_WIDTH) & (abs(ahead[:, 1]) < 2 * RADIUS)
    if y(row["score"]) < bottom or crowded.any():
        return ""
    x = place[0] + RADIUS + 4
    return f'<text class="tick" x="{x:.1f}" y="{place[1] + 4:.1f}">▾ {row["score"]:.2f}</text>'
