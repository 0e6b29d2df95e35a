// Gathering rows of values, and the gradient of that.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "parallel.h"

namespace olivine {
namespace {

constexpr int64_t kTogether = 256;  // rows that a thread takes at a time

// Calls work(row) for the rows 0 … count − 1.
template <class Work>
void share_rows(int threads, int64_t count, const Work& work) {
    share(threads, (count + kTogether - 1) / kTogether, [&](Items& items) {
        for (int64_t item; (item = items.next()) >= 0;)
            for (int64_t row = item * kTogether; row < std::min((item + 1) * kTogether, count); ++row) work(row);
    });
}

template <class Real>
void sum_rows(const Real* grad, const int64_t* rows, int64_t pairs, int64_t channels, int64_t count, Real* out,
              int threads) {
    // The pairs of each row stand together, in order, so that any thread may sum them and always gets the same.
    std::vector<int64_t> starts(count + 2), of_row(pairs);
    for (int64_t pair = 0; pair < pairs; ++pair)
        if (rows[pair] >= 0) ++starts[rows[pair] + 2];
    for (int64_t row = 0; row < count; ++row) starts[row + 2] += starts[row + 1];
    for (int64_t pair = 0; pair < pairs; ++pair)
        if (rows[pair] >= 0) of_row[starts[rows[pair] + 1]++] = pair;
    share_rows(threads, count, [&](int64_t row) {
        Real* sum = out + row * channels;
        std::fill_n(sum, channels, Real{0});
        for (int64_t i = starts[row]; i < starts[row + 1]; ++i) {
            const Real* of_pair = grad + of_row[i] * channels;
            for (int64_t channel = 0; channel < channels; ++channel) sum[channel] += of_pair[channel];
        }
    });
}

}  // namespace

// The values [N] of `bytes` each that `rows` [pairs] name, zeros where a row is -1: `out` [pairs].
extern "C" void olivine_gather(const char* values, int64_t bytes, const int64_t* rows, int64_t pairs, char* out,
                               int threads) {
    share_rows(threads, pairs, [&](int64_t pair) {
        if (rows[pair] < 0) return static_cast<void>(std::memset(out + pair * bytes, 0, bytes));
        std::memcpy(out + pair * bytes, values + rows[pair] * bytes, bytes);
    });
}

// The sums of `grad` [pairs][channels] over the pairs of each row, in their order: `out` [count][channels].
extern "C" void olivine_scatter(int wide, const void* grad, const int64_t* rows, int64_t pairs, int64_t channels,
                                int64_t count, void* out, int threads) {
    if (wide)
        return sum_rows(static_cast<const double*>(grad), rows, pairs, channels, count, static_cast<double*>(out), threads);
    sum_rows(static_cast<const float*>(grad), rows, pairs, channels, count, static_cast<float*>(out), threads);
}

}  // namespace olivine
