"""The U-Net of SPVNAS and mmdetection3d, voxel by voxel, with its parameters as each of three libraries keeps them.

It draws a parameter when it first meets its name, so that after one pass `state` is the whole of a checkpoint.
"""

import itertools

import numpy as np

EPS = 1e-5


def cells(size):
    """Every cell of a kernel as a triple, and where it lies: an odd kernel is centred, an even one begins at 0."""
    for cell in itertools.product(range(size), repeat=3):
        yield cell, tuple(c - size // 2 if size % 2 else c for c in cell)


class NumberedUNet:
    """Voxels are dictionaries {(x, y, z): vector}; `library` is torchsparse, spconv, spconv1 or minkowski."""

    def __init__(self, library, *, base, encoder, decoder, blocks, seed=0):
        self.library, self.base, self.encoder, self.decoder, self.blocks = library, base, encoder, decoder, blocks
        self.rng = np.random.default_rng(seed)
        self.state = {}

    def __call__(self, voxels):
        x = self.layer("conv_input.0", voxels, 3, self.base)
        x = self.layer("conv_input.1", x, 3, self.base)
        skips = [x]
        for stage, channels in enumerate(self.encoder):
            here = f"encoder.{stage}"
            x = self.down(f"{here}.0", x, width(x))
            for number in range(self.blocks[stage]):
                x = self.block(f"{here}.{number + 1}", x, channels)
            skips.append(x)
        skips.pop()
        for stage, channels in enumerate(self.decoder):
            here, skip = f"decoder.{stage}", skips.pop()
            x = self.up(f"{here}.0", x, channels, skip)
            x = {voxel: np.concatenate([row, skip[voxel]]) for voxel, row in x.items()}
            for number in range(self.blocks[len(self.encoder) + stage]):
                x = self.block(f"{here}.1.{number}", x, channels)
        return x

    def layer(self, name, voxels, size, channels):
        conv, norm = self.within(name)
        return relu(self.norm(norm, self.convolve(conv, voxels, size, channels)))

    def down(self, name, voxels, channels):
        conv, norm = self.within(name)
        taps = self.taps(conv, 2, width(voxels), channels)
        out = {}
        for voxel in {tuple(c // 2 for c in voxel) for voxel in voxels}:
            near = ((tuple(2 * c + o for c, o in zip(voxel, offset, strict=True)), w) for offset, w in taps)
            out[voxel] = sum(voxels[place] @ w for place, w in near if place in voxels)
        return relu(self.norm(norm, out))

    def up(self, name, voxels, channels, onto):
        conv, norm = self.within(name)
        taps = dict(self.taps(conv, 2, width(voxels), channels))
        out = {v: voxels[tuple(c // 2 for c in v)] @ taps[tuple(c % 2 for c in v)] for v in onto}
        return relu(self.norm(norm, out))

    def block(self, name, voxels, channels):
        (conv1, norm1), (conv2, norm2), (conv3, norm3) = self.inside(name)
        x = relu(self.norm(norm1, self.convolve(conv1, voxels, 3, channels)))
        x = self.norm(norm2, self.convolve(conv2, x, 3, channels))
        if width(voxels) != channels:
            voxels = self.norm(norm3, self.convolve(conv3, voxels, 1, channels))
        return relu({voxel: row + voxels[voxel] for voxel, row in x.items()})

    def convolve(self, name, voxels, size, channels):
        taps = self.taps(name, size, width(voxels), channels)
        out = {}
        for voxel in voxels:
            near = ((tuple(c + o for c, o in zip(voxel, offset, strict=True)), w) for offset, w in taps)
            out[voxel] = sum(voxels[place] @ w for place, w in near if place in voxels)
        return out

    def within(self, name):
        """Names of the convolution and the norm of a module that is no block."""
        return (f"{name}.0", f"{name}.1") if self.library.startswith("spconv") else (f"{name}.net.0", f"{name}.net.1")

    def inside(self, name):
        """The same of a block: its two, and the shortcut's."""
        if self.library == "torchsparse":
            places = ("net.0", "net.1"), ("net.3", "net.4"), ("downsample.0", "downsample.1")
        elif self.library == "minkowski":
            places = ("conv1", "norm1"), ("conv2", "norm2"), ("downsample.net.0", "downsample.net.1")
        else:
            places = ("conv1", "bn1"), ("conv2", "bn2"), ("downsample.0", "downsample.1")
        return [(f"{name}.{conv}", f"{name}.{norm}") for conv, norm in places]

    def taps(self, name, size, inputs, outputs):
        """[(offset, matrix [inputs, outputs])] of a convolution's weight, from the library's own layout."""
        if self.library in ("torchsparse", "minkowski"):
            shape = (inputs, outputs) if size == 1 else (size**3, inputs, outputs)
            kernel = self.draw(f"{name}.kernel", shape, (inputs * size**3) ** -0.5).reshape(-1, inputs, outputs)
            last = self.library == "torchsparse" and size % 2 == 0
            order = [(cell[::-1], offset[::-1]) for cell, offset in cells(size)]  # the first axis fastest
            order = list(cells(size)) if last else order
            return [(offset, matrix) for (_, offset), matrix in zip(order, kernel, strict=True)]
        bound = (inputs * size**3) ** -0.5
        if self.library == "spconv1":
            weight = self.draw(f"{name}.weight", (size, size, size, inputs, outputs), bound)
            return [(offset, weight[cell]) for cell, offset in cells(size)]
        weight = self.draw(f"{name}.weight", (outputs, size, size, size, inputs), bound)
        if size == 1:  # spconv multiplies by the memory as it lies
            return [((0, 0, 0), weight.reshape(inputs, outputs))]
        return [(offset, weight[:, cell[0], cell[1], cell[2]].T) for cell, offset in cells(size)]

    def norm(self, name, voxels):
        channels = width(voxels)
        at = f"{name}.bn" if self.library == "minkowski" else name
        scale, shift = self.draw(f"{at}.weight", channels, 0.5, 1), self.draw(f"{at}.bias", channels, 0.5)
        mean, variance = (
            self.draw(f"{at}.running_mean", channels, 0.5),
            self.draw(f"{at}.running_var", channels, 0.4, 1),
        )
        self.state.setdefault(f"{at}.num_batches_tracked", np.array(3))
        return {v: (row - mean) / np.sqrt(variance + EPS) * scale + shift for v, row in voxels.items()}

    def draw(self, name, shape, spread, centre=0.0):
        """A parameter of numbers that float32 has."""
        if name not in self.state:
            self.state[name] = (centre + self.rng.uniform(-spread, spread, shape)).astype(np.float32)
        return self.state[name].astype(np.float64)


def width(voxels):
    return len(next(iter(voxels.values())))


def relu(voxels):
    return {voxel: np.maximum(row, 0) for voxel, row in voxels.items()}
