"""What every estimator on sets shares."""

from skpapers.structure import as_sets, validate_structured

_PREDICT_ELEMENTS = 2**17  # elements (absent ones included) that go through the net at a time


class OnSets:
    """What every estimator on sets shares: parsing, standardisation, batches of prediction."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.allow_nan = True
        return tags

    def _parse_sets(self, X, y="no_validation", *, reset, **y_checks):
        out = validate_structured(self, X, y, parser=as_sets, reset=reset, **y_checks)
        sets, y = out if isinstance(out, tuple) else (out, None)
        if reset:
            self._element_width = sets.n_features
        elif sets.n_features != self._element_width:
            raise ValueError(
                f"X has elements of {sets.n_features} features, but {type(self).__name__} was "
                f"fitted on elements of {self._element_width} features"
            )
        return sets.to_padded(), y

    def _on_fit_begin(self, module, data):
        module.scaler.fit(*data.inputs, data.weight)

    def _rows_at_once(self, inputs):
        return max(1, _PREDICT_ELEMENTS // max(inputs[0].shape[1], 1))
