// The register block: the one inner loop of all sparse convolutions.
//
//     c[r][j] += Σ_d a[r][d] · b[d][j]        r < R rows, j < V vectors
//
// a is read one value at a time through a pointer per row, which is how gathered rows are used in place; b is a panel
// of V vectors per step; c is held in registers for the whole depth.
#pragma once

#include <utility>

#include "vector.h"

namespace olivine {
namespace {  // each library has blocks of its own, also where a process loads those of several instruction sets

struct Panel {
    const float* values;
    ptrdiff_t step;  // floats between two rows of the panel
};

// Rows of the left side and of the result: named one by one, or following each other. `at<V>` is a row of a result of V
// vectors, which lies in a panel of just that width if it is named.
template <class Float>
struct Gathered {
    Float* base;
    const int32_t* rows;
    ptrdiff_t stride;
    Float* operator[](int64_t row) const { return base + rows[row] * stride; }
    Gathered from(int64_t row) const { return {base, rows + row, stride}; }
};
struct Panelled {
    float* base;
    const int32_t* rows;
    int64_t first;  // the row that `base` is
    template <int V>
    float* at(int64_t row) const {
        return base + (rows[row] - first) * (V * kLanes);  // no multiplication: they would take as long as small blocks
    }
    Panelled from(int64_t row) const { return {base, rows + row, first}; }
};
template <class Float>
struct Consecutive {
    Float* base;
    ptrdiff_t stride;
    Float* operator[](int64_t row) const { return base + row * stride; }
    template <int V>
    Float* at(int64_t row) const {
        return base + row * stride;
    }
    Consecutive from(int64_t row) const { return {base + row * stride, stride}; }
};

// `count` blocks, one after another; a fresh result is written, any other added to.
template <int R, int V, bool Fresh, class A, class C>
void block(int64_t count, A a, ptrdiff_t a_step, Panel b, int64_t depth, C c) {
    for (; count > 0; --count, a = a.from(R), c = c.from(R)) {
        Vector sum[R][V];
        const float* rows[R];
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
            rows[r] = a[r];
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) sum[r][v] = Fresh ? Vector{} : load(c.template at<V>(r) + v * kLanes);
        }
        const float* weights = b.values;
        for (ptrdiff_t at = 0, end = depth * a_step; at != end; at += a_step, weights += b.step) {
            Vector w[V];
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) w[v] = load(weights + v * kLanes);
#pragma GCC unroll 16
            for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
                for (int v = 0; v < V; ++v) sum[r][v] += w[v] * rows[r][at];
        }
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) store(c.template at<V>(r) + v * kLanes, sum[r][v]);
    }
}

template <class A, class C>
using Block = void (*)(int64_t, A, ptrdiff_t, Panel, int64_t, C);

// The blocks of V vectors by their number of rows.
template <bool Fresh, class A, class C, int V, size_t... R>
const Block<A, C>* blocks_of(std::index_sequence<R...>) {
    static constexpr Block<A, C> blocks[] = {nullptr, block<static_cast<int>(R) + 1, V, Fresh, A, C>...};
    return blocks;
}

// The blocks of up to V vectors, by their number of rows.
template <bool Fresh, class A, class C, int V = kMaxVectors>
const Block<A, C>* blocks_of(int vectors) {
    if constexpr (V > 1) {
        if (vectors < V) return blocks_of<Fresh, A, C, V - 1>(vectors);
    }
    return blocks_of<Fresh, A, C, V>(std::make_index_sequence<kRows[V]>());
}

// c[r] += a[r] · b for r < count, or = where the result is fresh, cut into blocks of nearly equal height.
template <bool Fresh, class A, class C>
void multiply(int64_t count, int vectors, A a, ptrdiff_t a_step, Panel b, int64_t depth, C c) {
    const Block<A, C>* const block_with = blocks_of<Fresh, A, C>(vectors);
    const int64_t blocks = (count + kRows[vectors] - 1) / kRows[vectors];
    if (blocks == 0) return;
    const int64_t height = count / blocks, taller = count % blocks;  // blocks that have one row more
    if (taller) block_with[height + 1](taller, a, a_step, b, depth, c);
    const int64_t done = taller * (height + 1);
    block_with[height](blocks - taller, a.from(done), a_step, b, depth, c.from(done));
}

}  // namespace
}  // namespace olivine
