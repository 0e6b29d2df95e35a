"""What is wrong with a dataset: its files, its frames, its boxes and its calibration."""
