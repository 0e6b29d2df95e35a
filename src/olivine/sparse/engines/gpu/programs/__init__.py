"""The programs that run on the device, in Triton, which is needed to import the modules of this package.

Each is written for one block of rows and started for all of them at once. Sizes that change from cloud to cloud are
kept out of what Triton compiles for: a program is compiled once per type and shape of its block, not once per cloud.

Arguments have no types, as they are not Python's: Triton reads these functions, and sees pointers and numbers.
"""
