"""The simulated world as a nuScenes data set: its vehicle, its tables and how a scene is written."""
