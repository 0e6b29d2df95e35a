// Voxel sets and kernel maps: which input row meets which output row under which kernel cell.
#include <algorithm>
#include <limits>
#include <memory>
#include <vector>

#include "parallel.h"
#include "voxels.h"

namespace olivine {
namespace {

struct Rows {
    std::vector<int32_t> in, out;  // in ascending order of `out`
};

// What one thread finds for one cell, before it is known how much that is.
struct Found {
    std::unique_ptr<int32_t[]> in, out;
    int64_t count = 0;

    explicit Found(int64_t most) : in(new int32_t[most]), out(new int32_t[most]) {}
    void add(int32_t in_row, int32_t out_row) {
        in[count] = in_row;
        out[count++] = out_row;
    }
    void move_to(Rows& rows) {
        rows.in.assign(in.get(), in.get() + count);
        rows.out.assign(out.get(), out.get() + count);
        count = 0;
    }
};

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
    int32_t low[4] = {};
    int widths[4] = {}, bits = 0;
    for (int axis = 0; axis < 4 && count; ++axis) {
        const auto along = [axis](const Voxel& a, const Voxel& b) { return a.*kAxes[axis] < b.*kAxes[axis]; };
        const auto [least, most] = std::minmax_element(voxels, voxels + count, along);
        low[axis] = least->*kAxes[axis];
        while (int64_t{most->*kAxes[axis]} - low[axis] >= int64_t{1} << widths[axis]) ++widths[axis];
        bits += widths[axis];
    }
    if (bits > 64) return std::sort(voxels, voxels + count, before);
    std::vector<uint64_t> keys(count);
    for (int64_t row = 0; row < count; ++row)
        for (int axis = 3; axis >= 0; --axis)
            keys[row] = keys[row] << widths[axis] | static_cast<uint64_t>(int64_t{voxels[row].*kAxes[axis]} - low[axis]);
    sort_keys(keys, bits);
    for (int64_t row = 0; row < count; ++row)
        for (int axis = 0; axis < 4; keys[row] >>= widths[axis], ++axis)
            voxels[row].*kAxes[axis] = static_cast<int32_t>(low[axis] + static_cast<int64_t>(keys[row] & ((uint64_t{1} << widths[axis]) - 1)));
}

// For every output voxel, in order, the input voxel `offset` away, where there is one. `hashes` are the outputs'.
void search(const Table& table, const Voxel* outputs, const uint64_t* hashes, int64_t count, const Offset& offset,
            Found& found) {
    constexpr int64_t kAtOnce = 256;
    int32_t candidates[kAtOnce];
    const uint64_t step = hash_of(0, offset);
    for (int64_t first = 0; first < count; first += kAtOnce) {
        // Most voxels have no neighbour: those whose slot is empty are passed over without a branch to mispredict.
        int64_t some = 0;
        for (int64_t row = first; row < std::min(first + kAtOnce, count); ++row) {
            candidates[some] = static_cast<int32_t>(row);
            some += table.may_have(hashes[row] + step);
        }
        for (int64_t i = 0; i < some; ++i) {
            const int32_t row = candidates[i], in = table.find(outputs[row], offset, hashes[row] + step);
            if (in >= 0) found.add(in, row);
        }
    }
}

// The pairs of the cell opposite in a centred kernel: the same the other way round, in the order of their new outputs.
void mirror(const Rows& rows, int64_t count, int32_t* partner, Found& found) {
    std::fill_n(partner, count, -1);
    for (size_t pair = 0; pair < rows.in.size(); ++pair) partner[rows.in[pair]] = rows.out[pair];
    for (int64_t row = 0; row < count; ++row)
        if (partner[row] >= 0) found.add(partner[row], static_cast<int32_t>(row));
}

}  // namespace

extern "C" {

// Fills `slots` (zeros, a power of two above `count`) with the rows of `voxels`. Returns -1, or a row that repeats an
// earlier one.
int64_t olivine_index(const Voxel* voxels, int64_t count, uint64_t* slots, int64_t size) {
    Table table(voxels, slots, size);
    for (int64_t row = 0; row < count; ++row)
        if (table.insert(static_cast<int32_t>(row)) >= 0) return row;
    return -1;
}

// Writes the distinct voxels ⌊c / stride⌋ · stride to `coarse` (room for `count`), by batch, z, y, x. Returns how many,
// or -1 where one lies outside the range of int32.
int64_t olivine_coarsen(const Voxel* voxels, int64_t count, const int64_t* stride, Voxel* coarse) {
    for (int64_t row = 0; row < count; ++row) {
        const Voxel& at = voxels[row];
        const int64_t x = floor_to(at.x, stride[0]), y = floor_to(at.y, stride[1]), z = floor_to(at.z, stride[2]);
        if (!fits(x) || !fits(y) || !fits(z)) return -1;
        coarse[row] = {at.batch, static_cast<int32_t>(x), static_cast<int32_t>(y), static_cast<int32_t>(z)};
    }
    sort_raster(coarse, count);
    const auto same = [](const Voxel& a, const Voxel& b) { return is_at(a, b, {0, 0, 0}); };
    return std::unique(coarse, coarse + count, same) - coarse;
}

// The pairs of a convolution, cell by cell; `offsets` [cells][3] point from an output voxel to the input voxel. With
// `centred`, inputs and outputs are one and the offsets point-symmetric. Free the result by taking it.
std::vector<Rows>* olivine_pairs(const Voxel* inputs, uint64_t* slots, int64_t size, const Voxel* outputs,
                                 int64_t out_count, const Offset* offsets, int64_t cells, int centred, int threads,
                                 int64_t* sizes) {
    const Table table(inputs, slots, size);
    const std::unique_ptr<uint64_t[]> hashes(new uint64_t[out_count]);
    for (int64_t row = 0; row < out_count; ++row) hashes[row] = hash_of(outputs[row]);
    auto result = std::make_unique<std::vector<Rows>>(cells);
    share(threads, centred ? (cells + 1) / 2 : cells, [&](Items& items) {
        Found found(out_count);
        const std::unique_ptr<int32_t[]> partner(new int32_t[centred ? out_count : 0]);
        for (int64_t cell; (cell = items.next()) >= 0;) {
            Rows& rows = (*result)[cell];
            search(table, outputs, hashes.get(), out_count, offsets[cell], found);
            found.move_to(rows);
            if (!centred || cell == cells / 2) continue;
            mirror(rows, out_count, partner.get(), found);
            found.move_to((*result)[cells - 1 - cell]);
        }
    });
    for (int64_t cell = 0; cell < cells; ++cell) sizes[cell] = static_cast<int64_t>((*result)[cell].in.size());
    return result.release();
}

// Copies pairs to arrays of the sizes told before, and frees them.
void olivine_take_pairs(std::vector<Rows>* pairs, int32_t* in_rows, int32_t* out_rows) {
    const std::unique_ptr<std::vector<Rows>> owned(pairs);
    for (const Rows& rows : *owned) {
        in_rows = std::copy(rows.in.begin(), rows.in.end(), in_rows);
        out_rows = std::copy(rows.out.begin(), rows.out.end(), out_rows);
    }
}

// The pairs with both sides exchanged, each cell in the order of what is now the output: `rows` (below `count`, distinct
// within a cell) becomes `sorted` and takes its `partners` along.
void olivine_exchange(const int32_t* rows, const int32_t* partners, const int64_t* starts, int64_t cells, int64_t count,
                      int32_t* sorted, int32_t* sorted_partners, int threads) {
    share(threads, cells, [&](Items& items) {
        std::vector<int32_t> partner(count, -1);
        for (int64_t cell; (cell = items.next()) >= 0;) {
            int64_t at = starts[cell];
            const int64_t end = starts[cell + 1];
            for (int64_t pair = at; pair < end; ++pair) partner[rows[pair]] = partners[pair];
            for (int64_t row = 0; row < count; ++row) {
                if (partner[row] < 0) continue;
                sorted[at] = static_cast<int32_t>(row);
                sorted_partners[at++] = partner[row];
                partner[row] = -1;
            }
        }
    });
}

}  // extern "C"
}  // namespace olivine
