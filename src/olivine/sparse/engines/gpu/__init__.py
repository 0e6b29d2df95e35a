"""Sparse convolution on a GPU by programs of our own, written in Triton.

`voxels` numbers voxels and finds neighbours, `plans` puts a kernel map's rows into tiles, `choices` says how large the
tiles of a convolution are, `engine` is the `Engine` made of them; `programs` is what runs on the device. Nothing here
is imported before it is asked for, so that Triton is needed where it is used alone.

What was checked: every program by Triton's interpreter on a CPU, and that all compile for GPUs of compute capability
8.0 and 9.0. **Nothing here was run on a GPU**, which is why `engine_on` takes it only when it is told to.
"""
