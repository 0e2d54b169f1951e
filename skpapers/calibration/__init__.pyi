from ._calibration_errors import (
    calibration_error as calibration_error,
    multicalibration_error as multicalibration_error,
)
from ._fixed_predictor_reject import FixedPredictorRejector as FixedPredictorRejector
from ._legendre_link import LegendreLink as LegendreLink, log_softmax_plus as log_softmax_plus
from ._legendretron import LegendreTronClassifier as LegendreTronClassifier
from ._multicalibration_boosting import LevelSetBoostingRegressor as LevelSetBoostingRegressor
from ._rejection_losses import (
    coverage_risk_curve as coverage_risk_curve,
    reject_surrogate_loss as reject_surrogate_loss,
    rejection_loss as rejection_loss,
)
