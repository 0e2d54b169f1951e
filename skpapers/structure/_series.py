"""Panels of time series."""

import numpy as np
from sklearn.utils import assert_all_finite

from ._base import forms_error, is_panel_frame
from ._sets import Ragged, _parse

__all__ = ["as_panel"]

PANEL_FORMS = (
    "an array of shape (n_samples, n_channels, n_timepoints), shorter series filled up with NaN",
    "a table of shape (n_samples, n_timepoints)",
    "a Ragged",
    "a list or object array of series of shape (n_channels, t_i) or (t_i,)",
    "a pandas frame with series in its cells or with a (sample, time) index",
    "with layout='ntc', (n_samples, n_timepoints, n_channels) and (t_i, n_channels)",
)


def as_panel(X, layout="nct", allow_missing=False):
    """Parse a panel: samples that are series of one or several channels.

    Parameters
    ----------
    X : array-like, Ragged or pandas.DataFrame
        An array of shape (n_samples, n_channels, n_timepoints), shorter series filled up with
        NaN; a table of shape (n_samples, n_timepoints) for one channel; a :class:`Ragged`, whose
        elements are the time steps; a list or object array of series of shape (n_channels, t_i)
        or (t_i,); a frame with series in its cells, or with channels as columns and a
        two-level index (sample, time).
    layout : {"nct", "ntc"}, default="nct"
        Order of the axes of arrays: (sample, channel, time) or (sample, time, channel).
    allow_missing : bool, default=False
        Whether NaN may occur before the end of a series.

    Returns
    -------
    Ragged
        The panel with ``axis=1``: ``panel[i]`` has shape (n_channels, t_i), ``values`` is
        (n_steps, n_channels), ``sizes`` the lengths and ``to_padded()`` gives
        (n_samples, n_timepoints, n_channels) and its mask.

    Raises
    ------
    ValueError
        If `X` has another form, contains infinity, or NaN before the end of a series.

    Examples
    --------
    >>> import numpy as np
    >>> from skpapers.structure import as_panel
    >>> panel = as_panel([np.zeros((2, 100)), np.zeros((2, 80))])
    >>> panel.sizes, panel.n_features
    (array([100,  80]), 2)
    >>> values, mask = panel.to_padded()
    >>> values.shape
    (2, 100, 2)
    """
    if layout not in ("nct", "ntc"):
        raise ValueError(f"layout must be 'nct' or 'ntc', got {layout!r}")
    if hasattr(X, "iloc") and is_panel_frame(X):
        panel = _from_frame(X)
    else:
        axis = 1 if layout == "nct" else 0
        panel = _parse(X, PANEL_FORMS, "a panel of time series", _from_array, axis)
    assert_all_finite(panel.values, allow_nan=True, input_name="X")
    panel = _trim(panel)
    if not allow_missing and np.isnan(panel.values).any():
        raise forms_error(
            X, "a panel of time series", PANEL_FORMS, "NaN occurs before the end of a series"
        )
    return panel


def _from_array(X):
    n_samples, length, n_channels = X.shape
    return Ragged.from_flat(X.reshape(-1, n_channels), np.full(n_samples, length), axis=1)


def _trim(panel):
    """Cut the steps at the end of each series that are NaN in every channel."""
    present = ~np.isnan(panel.values).all(axis=1)
    if present.all():
        return Ragged.from_flat(panel.values, panel.sizes, axis=1)
    rows = panel.segment_ids
    step = np.arange(len(rows)) - panel.offsets[rows]
    sizes = np.zeros(len(panel), dtype=np.intp)
    np.maximum.at(sizes, rows[present], step[present] + 1)
    return Ragged.from_flat(panel.values[step < sizes[rows]], sizes, axis=1)


def _from_frame(frame):
    """Read sktime's nested frame (series in cells) or its (sample, time) index."""
    if frame.index.nlevels == 2:
        parts = [part.to_numpy() for _, part in frame.groupby(level=0, sort=False)]
        return Ragged([part.T for part in parts], axis=1)
    rows = frame.itertuples(index=False, name=None)
    return Ragged([np.stack([np.asarray(cell) for cell in row]) for row in rows], axis=1)
