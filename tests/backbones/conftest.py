"""What tests of the backbones share."""

from builders.native import path as path
