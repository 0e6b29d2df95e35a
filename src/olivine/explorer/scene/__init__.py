"""What stands in the scene, and pictures of it: sweeps in one, runs side by side, images before their cameras."""
