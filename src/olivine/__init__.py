"""Pretrain LiDAR backbones from camera images, without human labels."""

__version__ = "0.1.0"
