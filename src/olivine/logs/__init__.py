"""Logs of vehicles: what was recorded, in time order.

`bags` opens ROS 1 and ROS 2 bags, `messages` and `pictures` decode what is in them, `topics` says what a topic is for,
`damage` what is left of a broken file. All of it needs the extra `logs`, which is imported where a bag is opened.
"""
