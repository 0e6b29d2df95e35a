// Which points lie around centres, the first ones by row. Points are taken in chunks of consecutive rows; in a chunk those
// near each other stand together in blocks, so that a centre measures only blocks whose box its ball reaches. What it
// finds is marked in a bit per row, which puts it back in order, and the search ends with the chunk that fills the ball.
#include "parallel.h"
#include "points.h"

namespace olivine {
namespace {

constexpr int64_t kChunk = 1024, kBlock = 16, kBlocks = kChunk / kBlock, kWords = kChunk / 64;
constexpr int64_t kCentres = 64;  // that a thread takes at a time

template <class Real>
struct Chunk {
    using Vector = typename Wide<Real>::Vector;
    static constexpr int64_t kLanes = Wide<Real>::kLanes;

    // The points from one row of `xyz` until another.
    void fill(const Real* xyz, int64_t from, int64_t until) {
        const int64_t count = until - from;
        const std::vector<int32_t> order = order_in_space(xyz + 3 * from, count);
        for (int64_t at = 0; at < count; ++at) row[at] = static_cast<uint16_t>(order[at]);
        start = from;
        groups = ((count + kBlock - 1) / kBlock + kLanes - 1) / kLanes;
        for (int axis = 0; axis < 3; ++axis) fill_axis(axis, xyz + 3 * from + axis, count);
    }

    Vector axes[3][kChunk / kLanes];  // of points
    uint16_t row[kChunk];             // from `start` on
    Vector low[3][kBlocks / kLanes], high[3][kBlocks / kLanes];  // of blocks
    Real whole_low[3], whole_high[3];
    int64_t start, groups;

private:
    void fill_axis(int axis, const Real* values, int64_t count) {
        constexpr Real kFar = std::numeric_limits<Real>::infinity(), kNone = std::numeric_limits<Real>::quiet_NaN();
        whole_low[axis] = kFar, whole_high[axis] = -kFar;
        // What fills up the last group is in no ball, and in no box.
        for (int64_t block = 0; block < groups * kLanes; ++block) {
            Real block_low = kFar, block_high = -kFar;
            for (int64_t at = block * kBlock; at < (block + 1) * kBlock; ++at) {
                const Real value = at < count ? values[3 * row[at]] : kNone;
                axes[axis][at / kLanes][at % kLanes] = value;
                block_low = value < block_low ? value : block_low;
                block_high = value > block_high ? value : block_high;
            }
            low[axis][block / kLanes][block % kLanes] = block_low;
            high[axis][block / kLanes][block % kLanes] = block_high;
            whole_low[axis] = std::min(whole_low[axis], block_low);
            whole_high[axis] = std::max(whole_high[axis], block_high);
        }
    }
};

// What a centre looks for and has found of one radius.
template <class Real>
struct Ball {
    Real squared;
    int64_t samples;
    int64_t* out;
    int64_t found;
    uint64_t marks[kWords];

    bool full() const { return found == samples; }

    // Takes the rows that are marked, in order, and forgets the marks.
    void take(int64_t start) {
        for (int64_t word = 0; word < kWords; ++word)
            for (uint64_t left = std::exchange(marks[word], 0); left && !full(); left &= left - 1)
                out[found++] = start + 64 * word + __builtin_ctzll(left);
    }

    void finish() { std::fill(out + found, out + samples, found ? out[0] : -1); }
};

template <class Real>
void look_into(const Chunk<Real>& chunk, int64_t block, const typename Wide<Real>::Vector (&centre)[3],
               std::vector<Ball<Real>>& balls) {
    constexpr int64_t kLanes = Wide<Real>::kLanes;
    const typename Wide<Real>::Vector none = {};
    for (int64_t at = block * kBlock / kLanes; at < (block + 1) * kBlock / kLanes; ++at) {
        const auto squared = squared_length(centre[0] - chunk.axes[0][at], centre[1] - chunk.axes[1][at],
                                            centre[2] - chunk.axes[2][at]);
        for (Ball<Real>& ball : balls) {
            if (ball.full()) continue;
            for (unsigned inside = bits_of<Real>(squared < none + ball.squared); inside; inside &= inside - 1) {
                const int row = chunk.row[at * kLanes + __builtin_ctz(inside)];
                ball.marks[row / 64] |= uint64_t{1} << row % 64;
            }
        }
    }
}

template <class Real>
void fill_balls(const Chunk<Real>* chunk, const Chunk<Real>* end, const Real* place, std::vector<Ball<Real>>& balls) {
    using Vector = typename Wide<Real>::Vector;
    const Vector none = {}, centre[3] = {none + place[0], none + place[1], none + place[2]};
    for (; chunk != end; ++chunk) {
        Real reach = 0;
        for (const Ball<Real>& ball : balls) reach = ball.full() ? reach : std::max(reach, ball.squared);
        if (reach == 0) return;
        const auto whole = [&](int axis) { return gap(chunk->whole_low[axis], chunk->whole_high[axis], place[axis]); };
        if (!(squared_length(whole(0), whole(1), whole(2)) < reach)) continue;
        for (int64_t group = 0; group < chunk->groups; ++group) {
            const auto of_blocks = [&](int axis) { return gap(chunk->low[axis][group], chunk->high[axis][group], centre[axis]); };
            const Vector nearest = squared_length(of_blocks(0), of_blocks(1), of_blocks(2));
            for (unsigned near = bits_of<Real>(nearest < none + reach); near; near &= near - 1)
                look_into(*chunk, group * Wide<Real>::kLanes + __builtin_ctz(near), centre, balls);
        }
        for (Ball<Real>& ball : balls) ball.take(chunk->start);
    }
}

template <class Real>
void find_balls(const Real* xyz, const int64_t* bounds, const Real* centres, const int64_t* centre_bounds,
                int64_t frames, int64_t radii, const double* radius, const int64_t* samples, int64_t* const* out,
                int threads) {
    std::vector<std::pair<int64_t, int64_t>> ranges;
    std::vector<int64_t> first_chunk{0};
    for (int64_t frame = 0; frame < frames; ++frame) {
        for (int64_t from = bounds[frame]; from < bounds[frame + 1]; from += kChunk)
            ranges.emplace_back(from, std::min(from + kChunk, bounds[frame + 1]));
        first_chunk.push_back(static_cast<int64_t>(ranges.size()));
    }
    std::vector<Chunk<Real>> chunks(ranges.size());
    share(threads, static_cast<int64_t>(ranges.size()), [&](Items& items) {
        for (int64_t item; (item = items.next()) >= 0;) chunks[item].fill(xyz, ranges[item].first, ranges[item].second);
    });
    const int64_t count = centre_bounds[frames];
    share(threads, (count + kCentres - 1) / kCentres, [&](Items& items) {
        std::vector<Ball<Real>> balls(radii);
        for (int64_t item; (item = items.next()) >= 0;) {
            int64_t frame = 0;
            for (int64_t row = item * kCentres; row < std::min((item + 1) * kCentres, count); ++row) {
                while (centre_bounds[frame + 1] <= row) ++frame;
                for (int64_t i = 0; i < radii; ++i) {
                    const Real rounded_radius = static_cast<Real>(radius[i]);
                    balls[i] = {rounded_radius * rounded_radius, samples[i], out[i] + row * samples[i], 0, {}};
                }
                fill_balls(chunks.data() + first_chunk[frame], chunks.data() + first_chunk[frame + 1], centres + 3 * row, balls);
                for (Ball<Real>& ball : balls) ball.finish();
            }
        }
    });
}

}  // namespace

// The first rows of `xyz` [N][3] that lie nearer to each row of `centres` [M][3] than each radius: `out` [radii] pointers
// to [M][samples]. Filled up with the first of them; -1 where there are none. `bounds` and `centre_bounds` [frames + 1]
// are the first points and centres of the frames, and N and M.
extern "C" void olivine_balls(int wide, const void* xyz, const int64_t* bounds, const void* centres,
                              const int64_t* centre_bounds, int64_t frames, int64_t radii, const double* radius,
                              const int64_t* samples, int64_t* const* out, int threads) {
    if (wide)
        return find_balls(static_cast<const double*>(xyz), bounds, static_cast<const double*>(centres), centre_bounds,
                          frames, radii, radius, samples, out, threads);
    find_balls(static_cast<const float*>(xyz), bounds, static_cast<const float*>(centres), centre_bounds, frames, radii,
               radius, samples, out, threads);
}

}  // namespace olivine
