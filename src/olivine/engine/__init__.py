"""The training loop that pretraining, fine-tuning and probing share, with its run folders, checkpoints and weights."""
