"""Calibration files of other programs and datasets, one reader a form."""
