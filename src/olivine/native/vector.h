// The instruction set's shape: lanes of a float vector and the register block that fits its registers.
//
// The code is written once in the vector extensions that GCC and Clang share; which instructions they become is decided
// by the flags that the library is compiled with, one library per instruction set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace olivine {

#if defined(__AVX512F__)
constexpr int kLanes = 16;  // 32 registers
constexpr int kMaxVectors = 4;
constexpr int kRows[] = {0, 16, 12, 8, 6};
#elif defined(__AVX2__)
constexpr int kLanes = 8;  // 16 registers
constexpr int kMaxVectors = 2;
constexpr int kRows[] = {0, 8, 6};
#elif defined(__ARM_NEON)
constexpr int kLanes = 4;  // 32 registers
constexpr int kMaxVectors = 4;
constexpr int kRows[] = {0, 16, 12, 8, 6};
#else
constexpr int kLanes = 4;  // 16 registers of SSE2, or whatever the compiler makes of it
constexpr int kMaxVectors = 2;
constexpr int kRows[] = {0, 8, 6};
#endif
// kRows[v]: rows of a register block of v vectors. Rows × vectors accumulators hide the latency of an addition, and
// with the vectors of weights and a broadcast value fill the registers.

typedef float Vector __attribute__((vector_size(kLanes * sizeof(float))));
typedef float Unaligned __attribute__((vector_size(kLanes * sizeof(float)), aligned(4), may_alias));

#if defined(__AVX2__) && !defined(__AVX512F__)
inline __m256i first_lanes(int count) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lane);
}
#endif

inline Vector load(const float* from) { return *reinterpret_cast<const Unaligned*>(from); }
inline void store(float* to, Vector value) { *reinterpret_cast<Unaligned*>(to) = value; }

// Reads and writes the first `count` lanes of a vector and touches nothing beyond them; the others are read as 0.
struct Lanes {
    int count;

    Vector read(const float* from) const {
        if (count == kLanes) return load(from);
#if defined(__AVX512F__)
        return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), from);
#elif defined(__AVX2__)
        return _mm256_maskload_ps(from, first_lanes(count));
#else
        Vector value = {};
        std::memcpy(&value, from, count * sizeof(float));
        return value;
#endif
    }

    void write(float* to, Vector value) const {
        if (count == kLanes) return store(to, value);
#if defined(__AVX512F__)
        _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1), value);
#elif defined(__AVX2__)
        _mm256_maskstore_ps(to, first_lanes(count), value);
#else
        std::memcpy(to, &value, count * sizeof(float));
#endif
    }
};

}  // namespace olivine
