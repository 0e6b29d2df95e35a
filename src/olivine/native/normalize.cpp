// Batch normalisation in training, with what usually follows it:  out = relu(weight · (x − mean) / σ + bias + residual).
//
// Statistics are taken over segments of rows that fit the cache, and merged in their order in double precision
// (Chan, Golub and LeVeque 1979): the same bits for any number of threads.
#include <cmath>

#include "columns.h"
#include "parallel.h"

namespace olivine {
namespace {

constexpr int64_t kSegment = 128;  // rows

struct Rows {
    int64_t from, to;
    int64_t count() const { return to - from; }
};

int64_t segments_of(int64_t rows) { return (rows + kSegment - 1) / kSegment; }
Rows rows_of(int64_t segment, int64_t rows) { return {segment * kSegment, std::min((segment + 1) * kSegment, rows)}; }

// One vector of channels of a row.
struct Channels {
    int64_t from;
    Lanes lanes;
    Vector read(const float* row) const { return lanes.read(row + from); }
    void write(float* row, Vector value) const { lanes.write(row + from, value); }
};

template <class Visit>
void for_channels(int64_t channels, const Visit& visit) {
    for (int64_t from = 0; from < channels; from += kLanes)
        visit(Channels{from, {static_cast<int>(std::min<int64_t>(kLanes, channels - from))}});
}

// Mean and sum of squared differences from it, of each channel over some rows.
void moments(const float* x, Rows rows, int64_t channels, float* mean, float* squares) {
    for_channels(channels, [&](Channels c) {
        Vector sum = {}, square = {};
        for (int64_t row = rows.from; row < rows.to; ++row) sum += c.read(x + row * channels);
        const Vector average = sum / static_cast<float>(rows.count());
        for (int64_t row = rows.from; row < rows.to; ++row) {
            const Vector difference = c.read(x + row * channels) - average;
            square += difference * difference;
        }
        c.write(mean, average);
        c.write(squares, square);
    });
}

// Merges the moments of all segments, [segments][2][channels], into mean and biased variance.
void merge(const float* parts, int64_t rows, int64_t channels, float* mean, float* variance) {
    for (int64_t c = 0; c < channels; ++c) {
        double count = 0, average = 0, squares = 0;
        for (int64_t segment = 0; segment < segments_of(rows); ++segment) {
            const float* part = parts + segment * 2 * channels + c;
            const double more = static_cast<double>(rows_of(segment, rows).count());
            const double difference = part[0] - average;
            squares += part[channels] + difference * difference * count * more / (count + more);
            average += difference * more / (count + more);
            count += more;
        }
        mean[c] = static_cast<float>(average);
        variance[c] = static_cast<float>(squares / count);
    }
}

// The gradient before a ReLU that returned `out`, or without one.
Vector behind_relu(Channels c, const float* grad, const float* out) {
    const Vector value = c.read(grad);
    return out ? (c.read(out) <= 0.0f ? Vector{} : value) : value;
}

}  // namespace

extern "C" {

// Writes mean and biased variance of each channel of `x` [rows, channels], and `out`; `residual` may be null.
void olivine_normalize(const float* x, int64_t rows, int64_t channels, const float* weight, const float* bias, double eps,
                       const float* residual, int relu, float* mean, float* variance, float* out, int threads) {
    const int64_t segments = segments_of(rows);
    const Buffer parts(segments * 2 * channels);
    share(threads, segments, [&](Items& items) {
        for (int64_t item; (item = items.next()) >= 0;) {
            float* part = parts.get() + item * 2 * channels;
            moments(x, rows_of(item, rows), channels, part, part + channels);
        }
    });
    merge(parts.get(), rows, channels, mean, variance);
    const Buffer scale(channels);
    for (int64_t c = 0; c < channels; ++c) scale.get()[c] = static_cast<float>(weight[c] / std::sqrt(variance[c] + eps));
    share(threads, segments, [&](Items& items) {
        for (int64_t item; (item = items.next()) >= 0;) {
            const Rows mine = rows_of(item, rows);
            for_channels(channels, [&](Channels c) {
                const Vector centre = c.read(mean), slope = c.read(scale.get()), offset = c.read(bias);
                for (int64_t at = mine.from * channels; at < mine.to * channels; at += channels) {
                    Vector value = (c.read(x + at) - centre) * slope + offset;
                    if (residual) value += c.read(residual + at);
                    if (relu) value = value < 0.0f ? Vector{} : value;  // this way round a NaN stays one
                    c.write(out + at, value);
                }
            });
        }
    });
}

// Gradients of the above. `out` is what it returned where it ended in a ReLU, else null; `grad_x` and `grad_residual`
// may be null.
void olivine_normalize_gradient(const float* grad, const float* out, const float* x, int64_t rows, int64_t channels,
                                const float* weight, double eps, const float* mean, const float* variance, float* grad_x,
                                float* grad_residual, float* grad_weight, float* grad_bias, int threads) {
    const int64_t segments = segments_of(rows);
    const Buffer parts(segments * 2 * channels);
    share(threads, segments, [&](Items& items) {
        for (int64_t item; (item = items.next()) >= 0;) {
            float* const sums = parts.get() + item * 2 * channels;
            const Rows mine = rows_of(item, rows);
            for_channels(channels, [&](Channels c) {
                const Vector centre = c.read(mean);
                Vector sum = {}, product = {};
                for (int64_t at = mine.from * channels; at < mine.to * channels; at += channels) {
                    const Vector g = behind_relu(c, grad + at, out ? out + at : nullptr);
                    sum += g;
                    product += g * (c.read(x + at) - centre);
                    if (grad_residual) c.write(grad_residual + at, g);
                }
                c.write(sums, sum);
                c.write(sums + channels, product);
            });
        }
    });
    const Buffer scale(channels), shift(channels), slope(channels);
    for (int64_t c = 0; c < channels; ++c) {
        double sum = 0, product = 0;
        for (int64_t segment = 0; segment < segments; ++segment) {
            sum += parts.get()[segment * 2 * channels + c];
            product += parts.get()[segment * 2 * channels + channels + c];
        }
        const double inverse = 1 / std::sqrt(variance[c] + eps), count = static_cast<double>(rows);
        grad_bias[c] = static_cast<float>(sum);
        grad_weight[c] = static_cast<float>(product * inverse);
        scale.get()[c] = static_cast<float>(weight[c] * inverse);
        shift.get()[c] = static_cast<float>(sum / count);
        slope.get()[c] = static_cast<float>(product * inverse * inverse / count);
    }
    if (!grad_x) return;
    share(threads, segments, [&](Items& items) {
        for (int64_t item; (item = items.next()) >= 0;) {
            const Rows mine = rows_of(item, rows);
            for_channels(channels, [&](Channels c) {
                const Vector centre = c.read(mean), factor = c.read(scale.get()), mean_grad = c.read(shift.get()),
                             lean = c.read(slope.get());
                for (int64_t at = mine.from * channels; at < mine.to * channels; at += channels) {
                    const Vector g = behind_relu(c, grad + at, out ? out + at : nullptr);
                    c.write(grad_x + at, factor * (g - mean_grad - (c.read(x + at) - centre) * lean));
                }
            });
        }
    });
}

}  // extern "C"
}  // namespace olivine
