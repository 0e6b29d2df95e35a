"""Weights on disk: our own files, those that others publish, and where they are found."""
