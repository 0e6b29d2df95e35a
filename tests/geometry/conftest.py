"""What tests of geometry share."""

from builders.native import kernels as kernels
from builders.native import path as path
