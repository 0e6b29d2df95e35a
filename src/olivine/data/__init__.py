"""From a dataset's files to a batch: frames, augmentation, voxels, collation."""
