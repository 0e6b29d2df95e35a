"""Predictions of any network on any source, in files that others read: `olivine predict MODEL SOURCE OUT`."""

from olivine.prediction.config import Format, PredictConfig
from olivine.prediction.run import PredictSummary, predict

__all__ = ["Format", "PredictConfig", "PredictSummary", "predict"]
