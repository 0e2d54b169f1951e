"""Sequences of symbols: reading them, and the edits that turn one into its neighbours."""

from itertools import chain
from typing import NamedTuple

import numpy as np

from skpapers.structure import Ragged
from skpapers.structure._base import is_table

__all__ = [
    "Edits",
    "Sequences",
    "all_edits",
    "bin_values",
    "edited",
    "edited_symbols",
    "encode",
    "holds_symbols",
    "is_sequence_list",
    "padded_values",
    "present",
    "quantile_edges",
    "symbol_values",
    "symbols_at",
]


class Sequences(NamedTuple):
    """Positions in the alphabet, one sequence a row, -1 after its end; and the lengths."""

    codes: np.ndarray
    lengths: np.ndarray

    def rows(self, rows):
        """Part of the sequences."""
        return Sequences(self.codes[rows], self.lengths[rows])

    def symbols(self, alphabet):
        """Sequences as a list of tuples of symbols."""
        rows = [alphabet[row[:length]].tolist() for row, length in zip(*self)]
        return list(map(tuple, rows))

    def padded(self, alphabet, width):
        """Integers as they were given, and positions in the alphabet for strings; -1 pads."""
        codes = np.pad(self.codes, ((0, 0), (0, width - self.codes.shape[1])), constant_values=-1)
        return codes if alphabet.dtype.kind == "U" else np.append(alphabet, -1)[codes]


class Edits(NamedTuple):
    """Edits of single positions: +1 inserts `symbol` there, 0 replaces, -1 deletes."""

    row: np.ndarray
    position: np.ndarray
    symbol: np.ndarray
    change: np.ndarray


def is_sequence_list(X):
    """Tell lists of sequences, of strings or integers at least, from tables."""
    if isinstance(X, Ragged):
        return True
    if not isinstance(X, (list, tuple)) and getattr(getattr(X, "dtype", None), "kind", "") != "O":
        return False
    if getattr(X, "ndim", 1) != 1 or len(X) == 0:
        return False
    if all(isinstance(item, str) for item in X):
        return isinstance(X, (list, tuple))
    if not is_table(X):
        return True
    return hasattr(X[0], "__len__") and np.asarray(X).dtype.kind in "iuU"


def padded_values(X):
    """Read lists of sequences into a padded array, with NaN or "" after their ends."""
    if isinstance(X, Ragged):
        if X.n_features != 1:
            raise ValueError(f"sequences hold one symbol a step, got {X.n_features} features")
        return X.to_padded(np.nan)[0][:, :, 0]
    if not all(hasattr(item, "__len__") for item in X):
        raise ValueError("Expected a list of sequences, or a 2-D array with one sequence a row")
    lengths = np.array([len(item) for item in X])
    flat = np.array(list(chain.from_iterable(X)))
    if flat.ndim != 1 or flat.dtype.kind not in "iufU":
        raise ValueError("symbols must be all integers or all strings")
    dtype, padding = (flat.dtype, "") if flat.dtype.kind == "U" else (np.float64, np.nan)
    values = np.full((len(X), lengths.max(initial=0)), padding, dtype)
    values[np.arange(values.shape[1]) < lengths[:, None]] = flat
    return values


def present(values):
    """Which entries of a padded array are symbols; padding must be trailing."""
    absent = values == "" if values.dtype.kind == "U" else np.isnan(values)
    lengths = values.shape[1] - absent.sum(axis=1)
    if np.any(absent != (np.arange(values.shape[1]) >= lengths[:, None])):
        raise ValueError("padding (NaN or -1) is allowed after the end of a sequence only")
    if np.any(lengths == 0):
        raise ValueError("every sequence must have one symbol at least")
    return ~absent


def holds_symbols(values):
    """Whether a padded array holds symbols: strings, or integers, where -1 is padding."""
    if values.dtype.kind == "U":
        return True
    finite = values[~np.isnan(values)]
    return bool(np.all(finite >= -1) and np.all(finite == np.rint(finite)))


def symbol_values(values):
    """Turn the padding of -1 into NaN."""
    if values.dtype.kind == "U":
        return values
    if not holds_symbols(values):
        raise ValueError("symbols must be integers, at least 0, and -1 or NaN pads at the end")
    return np.where(values == -1, np.nan, values)


def quantile_edges(values, n_bins):
    """Inner edges of the bins of every column, of shape (n_bins - 1, n_columns)."""
    filled = np.ma.masked_invalid(values).filled(np.nan)
    return np.nanquantile(filled, np.arange(1, n_bins) / n_bins, axis=0)


def bin_values(values, edges):
    """Number of the bin of every value, NaN where it is NaN."""
    if values.shape[1] > edges.shape[1]:
        raise ValueError(f"sequences must have at most {edges.shape[1]} values")
    bins = (values[:, None] >= edges[None, :, : values.shape[1]]).sum(axis=1)
    return np.where(np.isnan(values), np.nan, bins)


def encode(values, alphabet):
    """Look the symbols of a padded array up in the sorted alphabet."""
    there = present(values)
    symbols = values[there]
    found = np.searchsorted(alphabet, symbols)
    found[found == len(alphabet)] = 0
    unknown = alphabet[found] != symbols
    if unknown.any():
        raise ValueError(f"symbol {symbols[unknown][0]} is not in the alphabet")
    codes = np.full(values.shape, -1)
    codes[there] = found
    lengths = there.sum(axis=1)
    return Sequences(codes[:, : lengths.max()], lengths)


def all_edits(sequences, n_symbols, max_length, n_positions=None, n_substitutions=None):
    """Edits to all neighbours: of the last `n_positions` symbols, in a symmetric way.

    What is inserted takes one of the last places of the new sequence, so that the deletion that
    undoes it is an edit too.
    """
    codes, lengths = sequences
    reach = max_length if n_positions is None else n_positions
    row, position = _last_places(lengths, reach, lengths > 0)
    offsets = _substitution_offsets(n_symbols, n_substitutions)
    replaced = (codes[row, position][:, None] + offsets) % n_symbols
    substitutions = _each_symbol(row, position, replaced, 0)
    row, position = _last_places(lengths, reach, lengths > 1)
    deletions = _each_symbol(row, position, np.full((len(row), 1), -1), -1)
    row, position = _last_places(lengths + 1, reach, lengths < max_length)
    inserted = np.broadcast_to(np.arange(n_symbols), (len(row), n_symbols))
    insertions = _each_symbol(row, position, inserted, 1)
    return Edits(*map(np.concatenate, zip(substitutions, deletions, insertions)))


def _last_places(lengths, reach, allowed):
    ends = lengths[:, None]
    columns = np.arange(lengths.max(initial=0))
    return np.nonzero(allowed[:, None] & (columns < ends) & (columns >= ends - reach))


def _substitution_offsets(n_symbols, n_substitutions):
    if n_substitutions is None or n_substitutions >= n_symbols:
        return np.arange(1, n_symbols)
    steps = np.arange(1, n_substitutions // 2 + 1)
    return np.unique(np.r_[steps, n_symbols - steps])


def _each_symbol(row, position, symbols, change):
    times = symbols.shape[1]
    edits = np.repeat(row, times), np.repeat(position, times), symbols.ravel()
    return Edits(*edits, np.full(symbols.size, change))


def symbols_at(codes, row, columns):
    """Symbols of the sequences `row` at `columns` (n_edits, ...), -1 outside of a sequence."""
    width = codes.shape[1]
    closed = np.column_stack([codes, np.full(len(codes), -1)])
    columns = np.where((columns >= 0) & (columns < width), columns, width)
    return closed[row.reshape(-1, *[1] * (columns.ndim - 1)), columns]


def edited_symbols(codes, edits, columns):
    """Symbols at `columns` (n_edits, ...) of the sequences that the edits make."""
    shape = (-1, *[1] * (columns.ndim - 1))
    position, change = edits.position.reshape(shape), edits.change.reshape(shape)
    source = columns - change * (columns >= position + (change > 0))
    symbols = symbols_at(codes, edits.row, source)
    return np.where((columns == position) & (change >= 0), edits.symbol.reshape(shape), symbols)


def edited(sequences, edits):
    """All sequences that the edits make."""
    row, position, symbol, change = edits
    end = np.full((len(sequences.codes), 1), -1)
    codes = np.hstack([sequences.codes, end])
    moved = {1: np.hstack([end, sequences.codes]), -1: np.hstack([codes[:, 1:], end])}
    symbols = codes[row]
    for direction, shifted in moved.items():
        chosen = np.flatnonzero(change == direction)
        behind = np.arange(codes.shape[1]) >= position[chosen, None]
        symbols[chosen] = np.where(behind, shifted[row[chosen]], symbols[chosen])
    placed = np.flatnonzero(change >= 0)
    symbols[placed, position[placed]] = symbol[placed]
    lengths = sequences.lengths[row] + change
    return Sequences(symbols[:, : lengths.max(initial=0)], lengths)
