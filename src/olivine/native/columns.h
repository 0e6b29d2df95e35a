// Channels cut into panels of whole vectors.
#pragma once

#include <algorithm>
#include <memory>
#include <new>

#include "vector.h"

namespace olivine {

// Uninitialised floats that begin a cache line, so that no whole vector of a padded row straddles two.
class Buffer {
public:
    explicit Buffer(int64_t count = 0)
        : floats_(static_cast<float*>(::operator new(count * sizeof(float), std::align_val_t{kLine}))) {}
    float* get() const { return floats_.get(); }

private:
    static constexpr size_t kLine = 64;
    struct Free {
        void operator()(float* floats) const { ::operator delete(floats, std::align_val_t{kLine}); }
    };
    std::unique_ptr<float, Free> floats_;
};

inline int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// A panel: the channels from `from` on, in `vectors` vectors, of the last of which `last` lanes exist.
struct Columns {
    int64_t from;
    int vectors;
    int last;

    int64_t width() const { return static_cast<int64_t>(vectors) * kLanes; }
    bool whole() const { return last == kLanes; }
    Lanes lanes(int vector) const { return {vector + 1 < vectors ? kLanes : last}; }
};

constexpr int64_t kWidest = static_cast<int64_t>(kMaxVectors) * kLanes;

// How many panels the channels are cut into, and the n-th of them; their widths differ by at most one vector.
inline int64_t panels_of(int64_t channels) { return (channels + kWidest - 1) / kWidest; }
inline Columns columns_of(int64_t panel, int64_t channels) {
    const int64_t vectors = (channels + kLanes - 1) / kLanes, panels = panels_of(channels);
    const int64_t from = vectors * panel / panels, to = vectors * (panel + 1) / panels;
    const int64_t end = std::min(to * kLanes, channels);
    return {from * kLanes, static_cast<int>(to - from), static_cast<int>(end - (to - 1) * kLanes)};
}

// One row of a panel, padded with zeros to whole vectors.
inline void copy_in(const float* from, const Columns& columns, float* to) {
    for (int v = 0; v < columns.vectors; ++v) store(to + v * kLanes, columns.lanes(v).read(from + v * kLanes));
}

}  // namespace olivine
