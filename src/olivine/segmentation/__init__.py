"""Semantic segmentation downstream of pretraining: fine-tuning, linear probing, scoring per point."""
