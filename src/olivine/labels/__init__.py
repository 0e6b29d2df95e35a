"""Weak labels for camera images: labellers, the run that applies one to a whole dataset, and its score."""
