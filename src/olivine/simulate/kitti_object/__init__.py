"""The simulated world as a KITTI 3-D object data set: its vehicle, its labels and how a scene is written."""
