// What the kernels of points share: vectors of either type of number, squared distances, and an order in space.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "vector.h"

namespace olivine {

// A vector of numbers of a type, the integers that go with its lanes, and which lanes of a comparison are true.
template <class Real>
struct Wide;

template <>
struct Wide<float> {
    static constexpr int kLanes = olivine::kLanes;
    typedef int32_t Integer;
    typedef float Vector __attribute__((vector_size(4 * olivine::kLanes)));
    typedef int32_t Integers __attribute__((vector_size(4 * olivine::kLanes)));
#if defined(__AVX512F__)
    static unsigned bits(Integers truth) { return _mm512_movepi32_mask(reinterpret_cast<__m512i>(truth)); }
#elif defined(__AVX2__)
    static unsigned bits(Integers truth) { return _mm256_movemask_ps(reinterpret_cast<__m256>(truth)); }
#endif
};

template <>
struct Wide<double> {
    static constexpr int kLanes = olivine::kLanes / 2;
    typedef int64_t Integer;
    typedef double Vector __attribute__((vector_size(4 * olivine::kLanes)));
    typedef int64_t Integers __attribute__((vector_size(4 * olivine::kLanes)));
#if defined(__AVX512F__)
    static unsigned bits(Integers truth) { return _mm512_movepi64_mask(reinterpret_cast<__m512i>(truth)); }
#elif defined(__AVX2__)
    static unsigned bits(Integers truth) { return _mm256_movemask_pd(reinterpret_cast<__m256d>(truth)); }
#endif
};

// Which lanes of a comparison are true, as bits.
template <class Real>
unsigned bits_of(typename Wide<Real>::Integers truth) {
#if defined(__AVX2__)
    return Wide<Real>::bits(truth);
#else
    unsigned bits = 0;
    for (int lane = 0; lane < Wide<Real>::kLanes; ++lane) bits |= static_cast<unsigned>(truth[lane] & 1) << lane;
    return bits;
#endif
}

// A product as it is once rounded: hides it from the compiler, which would fuse it with the sum that follows. The flags
// ask for that (-ffp-contract=fast), compilers differ in what they take back, and PyTorch, whose bits these kernels
// have, rounds both.
template <class Value>
Value rounded(Value value) {
#if defined(__SSE2__)
    asm("" : "+v"(value));
#elif defined(__aarch64__) || defined(__ARM_NEON)
    asm("" : "+w"(value));
#else
    asm("" : "+m"(value));
#endif
    return value;
}

// Of a number or a vector of them per axis.
template <class Value>
Value squared_length(Value x, Value y, Value z) {
    return rounded(x * x) + rounded(y * y) + rounded(z * z);
}

// How far a place is from an interval; no further, when rounded, than from any number in it, as roundings keep the order.
template <class Value>
Value gap(Value low, Value high, Value place) {
    const Value below = low - place, above = place - high, most = below > above ? below : above, none = {};
    return most > none ? most : none;
}

// The ten bits of a number, two zeros before each.
inline uint32_t spread_bits(uint32_t cell) {
    cell = (cell | cell << 16) & 0x030000ff;
    cell = (cell | cell << 8) & 0x0300f00f;
    cell = (cell | cell << 4) & 0x030c30c3;
    return (cell | cell << 2) & 0x09249249;
}

// Sorts keys by their upper half, of 30 bits.
inline void sort_keys(std::vector<uint64_t>& keys) {
    constexpr int kDigits = 1024;
    int32_t starts[3][kDigits] = {};
    const auto digit_of = [](uint64_t key, int digit) { return key >> (32 + 10 * digit) & (kDigits - 1); };
    for (const uint64_t key : keys)
        for (int digit = 0; digit < 3; ++digit) ++starts[digit][digit_of(key, digit)];
    std::vector<uint64_t> sorted(keys.size());
    for (int digit = 0; digit < 3; ++digit) {
        int32_t sum = 0;
        for (int32_t& start : starts[digit]) sum += std::exchange(start, sum);
        for (const uint64_t key : keys) sorted[starts[digit][digit_of(key, digit)]++] = key;
        keys.swap(sorted);
    }
}

// The rows 0 … count − 1 so that those next to each other are near each other: along a Z-order curve through a cube of
// 1024³ cells.
template <class Real>
std::vector<int32_t> order_in_space(const Real* xyz, int64_t count) {
    double low[3], extent = 0;
    for (int axis = 0; axis < 3; ++axis) {
        Real least = xyz[axis], most = xyz[axis];
        for (int64_t row = 1; row < count; ++row) {
            least = std::min(least, xyz[3 * row + axis]);
            most = std::max(most, xyz[3 * row + axis]);
        }
        low[axis] = least;
        extent = std::max(extent, static_cast<double>(most) - least);
    }
    const double scale = extent > 0 ? 1024 / extent : 0;
    std::vector<uint64_t> keys(count);
    for (int64_t row = 0; row < count; ++row) {
        uint64_t code = 0;
        for (int axis = 0; axis < 3; ++axis) {
            const double place = (xyz[3 * row + axis] - low[axis]) * scale;
            const uint32_t cell = place < 1023 ? static_cast<uint32_t>(place) : 1023;  // also where it is no number
            code |= static_cast<uint64_t>(spread_bits(cell)) << axis;
        }
        keys[row] = code << 32 | static_cast<uint64_t>(row);
    }
    sort_keys(keys);
    std::vector<int32_t> order(count);
    for (int64_t i = 0; i < count; ++i) order[i] = static_cast<int32_t>(keys[i]);
    return order;
}

}  // namespace olivine
