// The gradient of a sparse convolution in its weight: for every kernel cell, in[pairs]ᵀ · grad[pairs].
//
// Work is cut into segments of pairs and strips of input channels. A segment copies a chunk of its rows next to each
// other, where they stay in the cache while the register blocks of the product pass over them. The cut depends on the
// sizes alone, and the segments of a cell are summed in their order: the same bits for any number of threads.
#include "block.h"
#include "columns.h"
#include "parallel.h"

namespace olivine {
namespace {

constexpr int64_t kSegment = 4096;  // pairs that one item of work sums
constexpr int64_t kChunk = 128;     // pairs copied at a time
constexpr int64_t kStrip = 64;      // input channels of one item of work

struct Gradient {
    const float *in, *grad;
    int64_t in_channels, out_channels;
    const int32_t *in_rows, *out_rows;

    int64_t padded() const { return round_up(out_channels, kLanes); }
};

struct Segment {
    int64_t from, to;  // pairs
    float* result;     // [in_channels, out_channels], all of it written
    float* total;      // where the result is added, null if it stands there already
};

// The segments of all cells. The first of a cell writes to its place in the gradient, the others to `partial`.
std::vector<Segment> segments_of(const int64_t* starts, int64_t cells, int64_t size, float* gradient, Buffer& partial) {
    const auto count = [&](int64_t cell) {
        return std::max<int64_t>(1, (starts[cell + 1] - starts[cell] + kSegment - 1) / kSegment);
    };
    int64_t further = 0;
    for (int64_t cell = 0; cell < cells; ++cell) further += count(cell) - 1;
    partial = Buffer(further * size);
    float* free = partial.get();
    std::vector<Segment> segments;
    for (int64_t cell = 0; cell < cells; ++cell) {
        float* const own = gradient + cell * size;
        for (int64_t part = 0; part < count(cell); ++part) {
            const int64_t from = starts[cell] + part * kSegment, to = std::min(from + kSegment, starts[cell + 1]);
            segments.push_back(part ? Segment{from, to, free, own} : Segment{from, to, own, nullptr});
            if (part) free += size;
        }
    }
    return segments;
}

// Strip of input channels `first` … `first + height` of one segment.
void accumulate(const Gradient& g, const Segment& segment, int64_t first, int64_t height, float* in, float* grad,
                float* sum) {
    const int64_t padded = g.padded(), panels = panels_of(g.out_channels);
    std::fill_n(sum, height * padded, 0.0f);
    for (int64_t from = segment.from; from < segment.to; from += kChunk) {
        const int64_t count = std::min(kChunk, segment.to - from);
        for (int64_t pair = 0; pair < count; ++pair)
            std::memcpy(in + pair * height, g.in + g.in_rows[from + pair] * g.in_channels + first, height * sizeof(float));
        for (int64_t p = 0; p < panels; ++p) {
            const Columns columns = columns_of(p, g.out_channels);
            const int64_t width = columns.width();
            for (int64_t pair = 0; pair < count; ++pair)
                copy_in(g.grad + g.out_rows[from + pair] * g.out_channels + columns.from, columns, grad + pair * width);
            multiply<false>(height, columns.vectors, Consecutive<const float>{in, 1}, height, {grad, width}, count,
                     Consecutive<float>{sum + columns.from, padded});
        }
    }
    for (int64_t row = 0; row < height; ++row)
        std::memcpy(segment.result + (first + row) * g.out_channels, sum + row * padded, g.out_channels * sizeof(float));
}

}  // namespace

extern "C" void olivine_weight_gradient(const float* in, const float* grad, float* gradient, int64_t in_channels,
                                        int64_t out_channels, const int32_t* in_rows, const int32_t* out_rows,
                                        const int64_t* starts, int64_t cells, int threads) {
    const Gradient g{in, grad, in_channels, out_channels, in_rows, out_rows};
    const int64_t size = in_channels * out_channels, strips = (in_channels + kStrip - 1) / kStrip;
    Buffer partial;
    const std::vector<Segment> segments = segments_of(starts, cells, size, gradient, partial);
    share(threads, static_cast<int64_t>(segments.size()) * strips, [&](Items& items) {
        const Buffer rows(kChunk * kStrip), grads(kChunk * kWidest),
            sum(kStrip * g.padded());
        for (int64_t item; (item = items.next()) >= 0;) {
            const int64_t first = item % strips * kStrip;
            accumulate(g, segments[item / strips], first, std::min(kStrip, in_channels - first), rows.get(), grads.get(),
                       sum.get());
        }
    });
    for (const Segment& segment : segments)
        for (int64_t i = 0; segment.total && i < size; ++i) segment.total[i] += segment.result[i];
}

}  // namespace olivine
