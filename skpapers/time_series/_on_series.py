"""What the S4D estimators share: parsing series, checking the state space."""

from numbers import Integral, Real

from sklearn.utils._param_validation import Interval, StrOptions

from skpapers.structure import as_panel, validate_structured

SSM_CONSTRAINTS = {
    "d_state": [Interval(Integral, 2, None, closed="left")],
    "init": [StrOptions({"legs", "inv", "lin", "real"})],
    "discretization": [StrOptions({"zoh", "bilinear"})],
    "dt_min": [Interval(Real, 0, None, closed="neither")],
    "dt_max": [Interval(Real, 0, None, closed="neither")],
}


class OnSeries:
    """Parse series, and check channels and the parameters of the state spaces."""

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags

    def _parse_series(self, X, y="no_validation", *, reset, **y_checks):
        out = validate_structured(self, X, y, parser=as_panel, reset=reset, **y_checks)
        panel, y = out if isinstance(out, tuple) else (out, None)
        if reset:
            self._check_state_space()
            self.n_channels_ = panel.n_features
            self.n_timepoints_ = int(panel.sizes.max(initial=0))
        elif panel.n_features != self.n_channels_:
            raise ValueError(
                f"X has {panel.n_features} channels, but {type(self).__name__} was fitted on "
                f"{self.n_channels_} channels"
            )
        return panel.to_padded(), y

    def _check_state_space(self):
        if self.d_state % 2:
            raise ValueError(f"d_state must be even, got {self.d_state}")
        if self.dt_min > self.dt_max:
            raise ValueError(f"dt_min={self.dt_min} is larger than dt_max={self.dt_max}")
