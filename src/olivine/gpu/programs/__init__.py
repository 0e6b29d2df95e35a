"""The programs of boxes and points, in Triton, which is needed to import the modules of this package.

Arguments have no types, as they are not Python's: Triton reads these functions, and sees pointers and numbers. They are
started with `enable_fp_fusion=False`: products are rounded before they are added, as in the C++ kernels.
"""
