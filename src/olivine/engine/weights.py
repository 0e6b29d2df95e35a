"""The former place of `olivine.weights.file`, for scripts that read weights from here."""

from olivine.weights.file import LoadReport, Weights, load_weights, read_weights, save_weights

__all__ = ["LoadReport", "Weights", "load_weights", "read_weights", "save_weights"]
