"""Detection: from a recipe to a trained detector and its scores, with KITTI's counting of them (`kitti`)."""
