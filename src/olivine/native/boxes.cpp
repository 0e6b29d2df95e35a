// How much rotated boxes overlap, and which of them stand in the shade of better ones. All in double precision.
//
// The part of a convex polygon within |x| ≤ w, |y| ≤ h has at x the height of its upper edge less that of its lower edge,
// both held to ±h. So its area is the integral of the held y along the polygon's boundary, between −w and w: each edge
// adds its share on its own, no corner of the part is ever looked for, and as every step is continuous in the boxes,
// shared edges, touching corners and slivers are no special cases.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "parallel.h"

namespace olivine {
namespace {

struct Box {
    double x, y, z, dx, dy, dz, yaw;
};
static_assert(sizeof(Box) == 7 * sizeof(double), "a row of boxes");

// A box with what is needed of it again and again.
struct Placed {
    explicit Placed(const Box& box)
        : x(box.x), y(box.y), z(box.z), half_x(box.dx / 2), half_y(box.dy / 2), half_z(box.dz / 2),
          cos(std::cos(box.yaw)), sin(std::sin(box.yaw)), radius(std::hypot(half_x, half_y)), area(box.dx * box.dy),
          volume(box.dx * box.dy * box.dz) {}
    double x, y, z, half_x, half_y, half_z, cos, sin, radius, area, volume;
};

std::vector<Placed> placed(const Box* boxes, int64_t count) { return {boxes, boxes + count}; }

double held(double value, double limit) { return std::min(std::max(value, -limit), limit); }

// The mean of y held to ±limit while y goes evenly from one value to another.
double mean_held(double from, double to, double limit) {
    const double low = std::min(from, to), high = std::max(from, to), range = high - low;
    if (range == 0) return held(from, limit);
    const double below = std::min(std::max(-limit - low, 0.0), range), above = std::min(std::max(high - limit, 0.0), range);
    const double first = held(low, limit), last = held(high, limit);
    return ((last - first) * (first + last) / 2 + (above - below) * limit) / range;
}

struct Point {
    double x, y;
};

// The integral of y held to ±half_y over the x of an edge, held to ±half_x.
double under(Point from, Point to, double half_x, double half_y) {
    const double width = to.x - from.x, rise = to.y - from.y;
    if (width == 0) return 0;
    const double start = held(from.x, half_x), end = held(to.x, half_x);
    const auto y_at = [&](double x) { return from.y + (x - from.x) / width * rise; };
    return (end - start) * mean_held(y_at(start), y_at(end), half_y);
}

bool may_touch(const Placed& a, const Placed& b) {
    const double east = a.x - b.x, north = a.y - b.y, reach = a.radius + b.radius;
    return east * east + north * north < reach * reach;
}

// Whether an axis of `b` separates the boxes; (x, y) is the centre of `a` in the axes of `b`, cos and sin are of its
// heading there.
bool apart_along(const Placed& a, const Placed& b, double x, double y, double cos, double sin) {
    cos = std::abs(cos), sin = std::abs(sin);
    return std::abs(x) >= b.half_x + a.half_x * cos + a.half_y * sin || std::abs(y) >= b.half_y + a.half_x * sin + a.half_y * cos;
}

// The area that two boxes share, seen from above; exactly 0 where an axis of either separates them.
double shared_area(const Placed& a, const Placed& b) {
    const double east = a.x - b.x, north = a.y - b.y;
    const double x = east * b.cos + north * b.sin, y = north * b.cos - east * b.sin;  // the centre of a, in the axes of b
    const double cos = a.cos * b.cos + a.sin * b.sin, sin = a.sin * b.cos - a.cos * b.sin;
    if (apart_along(a, b, x, y, cos, sin)) return 0;
    if (apart_along(b, a, east * a.cos + north * a.sin, north * a.cos - east * a.sin, cos, sin)) return 0;
    const Point along{a.half_x * cos, a.half_x * sin}, across{-a.half_y * sin, a.half_y * cos};
    const Point corners[] = {{x + along.x + across.x, y + along.y + across.y},
                             {x - along.x + across.x, y - along.y + across.y},
                             {x - along.x - across.x, y - along.y - across.y},
                             {x + along.x - across.x, y + along.y - across.y}};
    double area = 0;
    for (int edge = 0; edge < 4; ++edge) area -= under(corners[edge], corners[(edge + 1) % 4], b.half_x, b.half_y);
    return std::min(std::max(area, 0.0), std::min(a.area, b.area));
}

double shared_height(const Placed& a, const Placed& b) {
    const double up = a.z - b.z;
    return std::max(std::min(b.half_z, up + a.half_z) - std::max(-b.half_z, up - a.half_z), 0.0);
}

double over_union(double shared, double a, double b) { return shared > 0 ? shared / (a + b - shared) : 0; }

enum Measure { kSharedArea, kIouFromAbove, kIouInSpace };  // as in boxes.py

// Never inlined: one machine code for all callers, so that a pair has the same bits wherever it is measured.
__attribute__((noinline)) double measured(const Placed& a, const Placed& b, int measure) {
    const double area = shared_area(a, b);
    if (measure == kSharedArea) return area;
    if (measure == kIouFromAbove) return over_union(area, a.area, b.area);
    return over_union(area * shared_height(a, b), a.volume, b.volume);
}

constexpr int64_t kChunk = 512;  // pairs or columns that one thread takes at a time

// Calls work(from, to) for chunks of the numbers from `first` up to `count`.
template <class Work>
void share_chunks(int threads, int64_t first, int64_t count, const Work& work) {
    share(threads, (count - first + kChunk - 1) / kChunk, [&](Items& items) {
        for (int64_t item; (item = items.next()) >= 0;)
            work(first + item * kChunk, std::min(first + (item + 1) * kChunk, count));
    });
}

// One row of a matrix of measures. Most boxes are far apart: those are passed over without a branch to mispredict.
void measure_row(const Placed& a, const std::vector<Placed>& others, int measure, double* out) {
    const int64_t count = static_cast<int64_t>(others.size());
    std::fill_n(out, count, 0.0);
    int32_t near[kChunk];
    for (int64_t from = 0; from < count; from += kChunk) {
        int some = 0;
        for (int64_t column = from; column < std::min(from + kChunk, count); ++column) {
            near[some] = static_cast<int32_t>(column - from);
            some += may_touch(a, others[column]);
        }
        for (int i = 0; i < some; ++i) out[from + near[i]] = measured(a, others[from + near[i]], measure);
    }
}

bool shades(const Placed& better, const Placed& box, double threshold) {
    return may_touch(better, box) && measured(better, box, kIouFromAbove) > threshold;
}

}  // namespace

extern "C" {

// Measures of every box of `a` with every box of `b`: `out` [a_count][b_count].
void olivine_measure_boxes(const Box* a, int64_t a_count, const Box* b, int64_t b_count, int measure, double* out,
                           int threads) {
    const auto rows = placed(a, a_count), columns = placed(b, b_count);
    share(threads, a_count, [&](Items& items) {
        for (int64_t row; (row = items.next()) >= 0;) measure_row(rows[row], columns, measure, out + row * b_count);
    });
}

// Measures of each box of `a` with the box of `b` in the same row: `out` [count].
void olivine_measure_pairs(const Box* a, const Box* b, int64_t count, int measure, double* out, int threads) {
    share_chunks(threads, 0, count, [&](int64_t from, int64_t to) {
        for (int64_t row = from; row < to; ++row) {
            const Placed one(a[row]), other(b[row]);
            out[row] = may_touch(one, other) ? measured(one, other, measure) : 0;
        }
    });
}

// Which of `boxes`, best first, are left when each drops what it overlaps by more than `threshold` and is behind it.
// Writes at most `most` rows to `kept` and returns how many.
int64_t olivine_suppress(const Box* boxes, int64_t count, double threshold, int64_t most, int64_t* kept, int threads) {
    constexpr int64_t kBlock = 64;
    const auto all = placed(boxes, count);
    std::vector<char> dropped(count);
    int64_t found = 0;
    // Boxes of a block settle it among themselves; then threads share what the block drops of those behind it.
    for (int64_t first = 0; first < count; first += kBlock) {
        const int64_t end = std::min(first + kBlock, count), earlier = found;
        for (int64_t row = first; row < end; ++row) {
            if (dropped[row]) continue;
            if (found == most) return found;
            kept[found++] = row;
            for (int64_t later = row + 1; later < end; ++later)
                if (!dropped[later]) dropped[later] = shades(all[row], all[later], threshold);
        }
        share_chunks(threads, end, count, [&](int64_t from, int64_t to) {
            for (int64_t row = from; row < to; ++row)
                for (int64_t one = earlier; one < found && !dropped[row]; ++one)
                    dropped[row] = shades(all[kept[one]], all[row], threshold);
        });
    }
    return found;
}

}  // extern "C"
}  // namespace olivine
