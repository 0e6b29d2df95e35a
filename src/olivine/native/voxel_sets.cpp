// Voxel sets made from others: the voxels of strided convolutions, distinct and in raster order.
#include <algorithm>
#include <limits>
#include <vector>

#include "voxels.h"

namespace olivine {
namespace {

bool fits(int64_t value) {
    return value >= std::numeric_limits<int32_t>::min() && value <= std::numeric_limits<int32_t>::max();
}

int64_t floor_to(int64_t value, int64_t stride) {
    if ((stride & (stride - 1)) == 0) return value & -stride;  // without a division, for the strides that networks have
    const int64_t rest = value % stride;
    return value - (rest < 0 ? rest + stride : rest);
}

// The axes of a voxel from the least to the most significant in raster order.
constexpr int32_t Voxel::*kAxes[] = {&Voxel::x, &Voxel::y, &Voxel::z, &Voxel::batch};

bool before(const Voxel& a, const Voxel& b) {
    if (a.batch != b.batch) return a.batch < b.batch;
    if (a.z != b.z) return a.z < b.z;
    return a.y != b.y ? a.y < b.y : a.x < b.x;
}

// Ascending order of keys that have `bits` bits, digit by digit from the least significant.
void sort_keys(std::vector<uint64_t>& keys, int bits) {
    constexpr int kDigit = 11;
    std::vector<uint64_t> sorted(keys.size());
    for (int shift = 0; shift < bits; shift += kDigit) {
        int64_t ends[1 << kDigit] = {};
        const auto digit = [&](uint64_t key) { return key >> shift & ((1 << kDigit) - 1); };
        for (const uint64_t key : keys) ++ends[digit(key)];
        for (int64_t value = 1; value < 1 << kDigit; ++value) ends[value] += ends[value - 1];
        for (auto key = keys.rbegin(); key != keys.rend(); ++key) sorted[--ends[digit(*key)]] = *key;
        keys.swap(sorted);
    }
}

// Puts voxels into raster order: by batch, z, y, x.
void sort_raster(Voxel* voxels, int64_t count) {
    Voxel low = count ? voxels[0] : Voxel{}, high = low;
    for (int64_t row = 0; row < count; ++row)
        for (const auto axis : kAxes) {
            low.*axis = std::min(low.*axis, voxels[row].*axis);
            high.*axis = std::max(high.*axis, voxels[row].*axis);
        }
    int widths[4] = {}, bits = 0;
    for (int axis = 0; axis < 4; bits += widths[axis++])
        while (int64_t{high.*kAxes[axis]} - low.*kAxes[axis] >= int64_t{1} << widths[axis]) ++widths[axis];
    if (bits > 64) return std::sort(voxels, voxels + count, before);
    std::vector<uint64_t> keys(count);
    for (int64_t row = 0; row < count; ++row)
        for (int axis = 3; axis >= 0; --axis)
            keys[row] = keys[row] << widths[axis] | static_cast<uint64_t>(int64_t{voxels[row].*kAxes[axis]} - low.*kAxes[axis]);
    sort_keys(keys, bits);
    for (int64_t row = 0; row < count; ++row)
        for (int axis = 0; axis < 4; keys[row] >>= widths[axis], ++axis) {
            const uint64_t above = keys[row] & ((uint64_t{1} << widths[axis]) - 1);
            voxels[row].*kAxes[axis] = static_cast<int32_t>(low.*kAxes[axis] + static_cast<int64_t>(above));
        }
}

// Sorts voxels and removes what is there twice; returns how many are left.
int64_t make_distinct(Voxel* voxels, int64_t count) {
    sort_raster(voxels, count);
    return std::unique(voxels, voxels + count, [](const Voxel& a, const Voxel& b) { return is_at(a, b, {0, 0, 0}); }) -
           voxels;
}

// One axis of a strided convolution on a bounded grid: output o sees the inputs o · stride − padding + k · dilation.
struct Axis {
    int64_t kernel, stride, padding, dilation, cells;  // `cells` of the output grid

    // Calls reach(o) for every output that sees input `at`.
    template <class Reach>
    void outputs(int64_t at, const Reach& reach) const {
        for (int64_t k = 0; k < kernel; ++k) {
            const int64_t scaled = at + padding - k * dilation;
            if (scaled >= 0 && scaled < cells * stride && scaled % stride == 0) reach(static_cast<int32_t>(scaled / stride));
        }
    }
};

}  // namespace

extern "C" {

// Writes the distinct voxels ⌊c / stride⌋ · stride to `coarse` (room for `count`), by batch, z, y, x. Returns how many,
// or -1 where one lies outside the range of int32.
int64_t olivine_coarsen(const Voxel* voxels, int64_t count, const int64_t* stride, Voxel* coarse) {
    for (int64_t row = 0; row < count; ++row) {
        const Voxel& at = voxels[row];
        const int64_t x = floor_to(at.x, stride[0]), y = floor_to(at.y, stride[1]), z = floor_to(at.z, stride[2]);
        if (!fits(x) || !fits(y) || !fits(z)) return -1;
        coarse[row] = {at.batch, static_cast<int32_t>(x), static_cast<int32_t>(y), static_cast<int32_t>(z)};
    }
    return make_distinct(coarse, count);
}

// The voxels of a bounded grid that a strided convolution reaches, by batch, z, y, x. Returns how many; free them by
// taking them. `axes` are x, y, z.
std::vector<Voxel>* olivine_reach(const Voxel* voxels, int64_t count, const Axis* axes, int64_t* found) {
    auto* reached = new std::vector<Voxel>;
    for (int64_t row = 0; row < count; ++row) {
        const Voxel& at = voxels[row];
        axes[2].outputs(at.z, [&](int32_t z) {
            axes[1].outputs(at.y, [&](int32_t y) {
                axes[0].outputs(at.x, [&](int32_t x) { reached->push_back({at.batch, x, y, z}); });
            });
        });
    }
    *found = make_distinct(reached->data(), static_cast<int64_t>(reached->size()));
    return reached;
}

// Copies the first `count` voxels to an array, and frees them all.
void olivine_take_voxels(std::vector<Voxel>* voxels, int64_t count, Voxel* to) {
    std::copy_n(voxels->begin(), count, to);
    delete voxels;
}

}  // extern "C"
}  // namespace olivine
