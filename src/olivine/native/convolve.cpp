// Sparse convolution without materialised gathers, and what follows it row by row:
//
//     out[u] = relu(scale · Σ_k in[pair k of u] · weight[k] + shift + residual[u])
//
// Output rows are cut into tiles and channels into panels. A tile's sums stay in the cache while the kernel cells pass
// over it; each takes its pairs, a block of rows at a time, straight from the rows of the input. Every output row is
// summed in one order of the cells (the identity first) whatever the tiles, so its bits do not depend on the number of
// threads.
#include <cmath>

#include "block.h"
#include "columns.h"
#include "parallel.h"

namespace olivine {
namespace {

struct Convolution {
    const float *in, *weight;
    float* out;
    int64_t in_channels, out_channels, out_count;
    const int32_t *in_rows, *out_rows;  // pairs, cell by cell, in ascending order of the output row
    const int64_t* starts;              // of each cell and, last, the number of pairs
    int64_t cells, identity;            // the cell that maps every row to itself, or -1
    const float *scale, *shift;    // null: 1 and 0
    const float *mean, *variance;  // of a batch norm whose weight is `scale` and whose bias is `shift`, or null
    double eps;                    // added to the variance
    const float* residual;         // null: 0
    bool relu;
};

struct Tile {
    int64_t first, end;  // output rows
    Columns columns;
    float* sums;    // [rows, width]
    float* packed;  // [in_channels, width]
};

constexpr int64_t kTileFloats = 64 * 1024;  // sums of a tile: 256 KiB, a part of the second-level cache
constexpr int64_t kTilesPerThread = 4;      // or more, so that no thread waits long for the last tile
constexpr int64_t kFewestRows = 128;        // below, copying weights and finding pairs outweighs the arithmetic

int64_t tile_rows(const Convolution& c, int threads) {
    const int64_t panels = panels_of(c.out_channels), width = std::min(round_up(c.out_channels, kLanes), kWidest);
    const int64_t balanced = c.out_count * panels / (kTilesPerThread * threads) + 1;
    return std::max(kFewestRows, std::min(balanced, kTileFloats / width));
}

// The first of ascending rows that is not below `row`, without a branch to mispredict.
const int32_t* lower_bound(const int32_t* from, const int32_t* to, int64_t row) {
    for (int64_t count = to - from; count > 0;) {
        const int64_t half = (count + 1) / 2;
        from += from[half - 1] < row ? half : 0;
        count -= half;
    }
    return from;
}

// The weights of a cell for the channels of a tile, padded to whole vectors where need be.
Panel panel_of(const Convolution& c, const Tile& tile, int64_t cell) {
    const float* values = c.weight + cell * c.in_channels * c.out_channels + tile.columns.from;
    if (tile.columns.whole()) return {values, c.out_channels};
    const int64_t width = tile.columns.width();
    for (int64_t row = 0; row < c.in_channels; ++row)
        copy_in(values + row * c.out_channels, tile.columns, tile.packed + row * width);
    return {tile.packed, width};
}

// Sets the sums to what one cell adds that maps every row to itself, or to 0.
void begin(const Convolution& c, const Tile& tile) {
    const int64_t rows = tile.end - tile.first, width = tile.columns.width();
    if (c.identity < 0) {
        std::fill_n(tile.sums, rows * width, 0.0f);
    } else {
        const Consecutive<const float> in{c.in + tile.first * c.in_channels, c.in_channels};
        multiply<true>(rows, tile.columns.vectors, in, 1, panel_of(c, tile, c.identity), c.in_channels,
                       Consecutive<float>{tile.sums, width});
    }
}

void add_cell(const Convolution& c, const Tile& tile, int64_t cell) {
    const int32_t *lower = c.out_rows + c.starts[cell], *upper = c.out_rows + c.starts[cell + 1];
    const int32_t* const from = lower_bound(lower, upper, tile.first);
    const int32_t* const to = lower_bound(from, upper, tile.end);
    if (from == to) return;
    const Gathered<const float> in{c.in, c.in_rows + (from - c.out_rows), c.in_channels};
    multiply<false>(to - from, tile.columns.vectors, in, 1, panel_of(c, tile, cell), c.in_channels,
                    Panelled{tile.sums, from, tile.first});
}

void finish(const Convolution& c, const Tile& tile) {
    const Columns& columns = tile.columns;
    float scale[kWidest], shift[kWidest] = {};
    std::fill_n(scale, kWidest, 1.0f);
    if (c.scale) copy_in(c.scale + columns.from, columns, scale);
    if (c.shift) copy_in(c.shift + columns.from, columns, shift);
    for (int64_t i = 0; c.mean && i < std::min(columns.width(), c.out_channels - columns.from); ++i) {
        scale[i] = static_cast<float>(scale[i] / std::sqrt(c.variance[columns.from + i] + c.eps));
        shift[i] -= c.mean[columns.from + i] * scale[i];
    }
    for (int v = 0; v < columns.vectors; ++v) {
        const Vector factor = load(scale + v * kLanes), offset = load(shift + v * kLanes);
        const Lanes lanes = columns.lanes(v);
        const float* sums = tile.sums + v * kLanes;
        int64_t at = tile.first * c.out_channels + columns.from + v * kLanes;
        for (int64_t row = tile.first; row < tile.end; ++row, sums += columns.width(), at += c.out_channels) {
            Vector value = load(sums) * factor + offset;
            if (c.residual) value += lanes.read(c.residual + at);
            if (c.relu) value = value < 0.0f ? Vector{} : value;  // this way round a NaN stays one
            lanes.write(c.out + at, value);
        }
    }
}

}  // namespace

extern "C" void olivine_convolve(const float* in, const float* weight, float* out, int64_t in_channels,
                                 int64_t out_channels, int64_t out_count, const int32_t* in_rows,
                                 const int32_t* out_rows, const int64_t* starts, int64_t cells, int64_t identity,
                                 const float* scale, const float* shift, const float* mean, const float* variance,
                                 double eps, const float* residual, int relu, int threads) {
    const Convolution c{in,    weight,   out,   in_channels, out_channels, out_count, in_rows, out_rows, starts,
                        cells, identity, scale, shift,       mean,         variance,  eps,     residual, relu != 0};
    if (out_channels == 0) return;
    const int64_t panels = panels_of(out_channels), rows = tile_rows(c, threads);
    share(threads, (out_count + rows - 1) / rows * panels, [&](Items& items) {
        const Buffer sums(rows * std::min(round_up(out_channels, kLanes), kWidest)), packed(in_channels * kWidest);
        for (int64_t item; (item = items.next()) >= 0;) {
            const int64_t first = item / panels * rows;
            const Tile tile{first, std::min(first + rows, out_count), columns_of(item % panels, out_channels), sums.get(),
                            packed.get()};
            begin(c, tile);
            for (int64_t cell = 0; cell < cells; ++cell)
                if (cell != identity) add_cell(c, tile, cell);
            finish(c, tile);
        }
    });
}

}  // namespace olivine
