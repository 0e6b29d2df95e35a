"""Logs of vehicles: what was recorded, in time order, and what becomes of it.

`bags` opens ROS 1 and ROS 2 bags, `messages` and `pictures` decode what is in them, `topics` says what a topic is for,
`damage` what is left of a broken file. `log` is the seam: whatever a path is (`opening`, `sources`), it gives readings,
calibration and poses. `frames` matches them, and `convert` writes a dataset of them by a recipe (`recipe`). Bags need
the extra `logs`, which is imported where one is opened.
"""
