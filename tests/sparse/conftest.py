"""What tests of the sparse engine share."""

from builders.native import kernels as kernels
from builders.native import path as path
