// Furthest-point sampling. Points that are near each other stand together in buckets, and most points are never measured
// again: a pick changes nothing in a bucket whose box is further from it than any of the bucket's points is from the
// picks before.
#include "parallel.h"
#include "points.h"

namespace olivine {
namespace {

constexpr int kBucket = 32;  // points

// The points of one frame, by their places in the order in which ties are resolved.
template <class Real>
class Spread {
    using W = Wide<Real>;
    using Vector = typename W::Vector;
    using Integers = typename W::Integers;
    using Integer = typename W::Integer;
    static constexpr int kLanes = W::kLanes, kVectors = kBucket / kLanes;
    static constexpr Integer kNowhere = std::numeric_limits<Integer>::max();

public:
    // `points` [count][3].
    Spread(const Real* points, int64_t count)
        : points_(points), buckets_((count + kBucket - 1) / kBucket), groups_((buckets_ + kLanes - 1) / kLanes) {
        const std::vector<int32_t> order = order_in_space(points, count);
        for (auto* held : {&axes_[0], &axes_[1], &axes_[2], &distance_}) held->resize(buckets_ * kVectors);
        for (auto* held : {&low_[0], &low_[1], &low_[2], &high_[0], &high_[1], &high_[2], &most_}) held->resize(groups_);
        place_.resize(buckets_ * kVectors);
        first_.assign(groups_, Integers{} + kNowhere);
        std::fill(most_.begin(), most_.end(), Vector{} - 1);
        for (int64_t bucket = 0; bucket < buckets_; ++bucket) fill(bucket, order);
    }

    // Places of points, each furthest from those before; the first is 0.
    void pick(int64_t count, int64_t* picked) {
        for (int64_t step = 0, place = 0; step < count; ++step) {
            picked[step] = place;
            if (step + 1 < count) place = next(points_ + 3 * place);
        }
    }

private:
    void fill(int64_t bucket, const std::vector<int32_t>& order) {
        const int64_t start = bucket * kBucket, count = static_cast<int64_t>(order.size());
        Integer first = kNowhere;
        for (int64_t at = start; at < start + kBucket; ++at) {
            const bool real = at < count;  // others fill up the last bucket, and are never the furthest
            const int32_t place = order[real ? at : start];
            for (int axis = 0; axis < 3; ++axis) {
                const Real value = points_[3 * place + axis];
                auto& low = low_[axis][bucket / kLanes][bucket % kLanes];
                auto& high = high_[axis][bucket / kLanes][bucket % kLanes];
                low = at == start ? value : std::min<Real>(low, value);
                high = at == start ? value : std::max<Real>(high, value);
                axes_[axis][at / kLanes][at % kLanes] = value;
            }
            place_[at / kLanes][at % kLanes] = place;
            distance_[at / kLanes][at % kLanes] = real ? std::numeric_limits<Real>::infinity() : -1;
            first = std::min<Integer>(first, place);
        }
        most_[bucket / kLanes][bucket % kLanes] = std::numeric_limits<Real>::infinity();
        first_[bucket / kLanes][bucket % kLanes] = first;
    }

    // The place of the point that is furthest from all picks up to this one.
    int64_t next(const Real* pick) {
        const Vector none = {}, x = none + pick[0], y = none + pick[1], z = none + pick[2];
        Vector best = none - 1;
        Integers where = Integers{} + kNowhere;
        for (int64_t group = 0; group < groups_; ++group) {
            const Vector nearest =
                squared_length(gap(low_[0][group], high_[0][group], x), gap(low_[1][group], high_[1][group], y),
                               gap(low_[2][group], high_[2][group], z));
            for (unsigned touched = bits_of<Real>(nearest < most_[group]); touched; touched &= touched - 1)
                update(group * kLanes + __builtin_ctz(touched), x, y, z);
            const Vector most = most_[group];
            const Integers first = first_[group], better = (most > best) | ((most == best) & (first < where));
            best = better ? most : best;
            where = better ? first : where;
        }
        return furthest(best, where).second;
    }

    void update(int64_t bucket, Vector x, Vector y, Vector z) {
        Vector best = Vector{} - 1;
        Integers where = Integers{} + kNowhere;
        for (int64_t at = bucket * kVectors; at < (bucket + 1) * kVectors; ++at) {
            const Vector measured = squared_length(axes_[0][at] - x, axes_[1][at] - y, axes_[2][at] - z);
            const Vector known = distance_[at], distance = measured < known ? measured : known;
            distance_[at] = distance;
            const Integers better = (distance > best) | ((distance == best) & (place_[at] < where));
            best = better ? distance : best;
            where = better ? place_[at] : where;
        }
        const auto [most, first] = furthest(best, where);
        most_[bucket / kLanes][bucket % kLanes] = most;
        first_[bucket / kLanes][bucket % kLanes] = first;
    }

    // The largest distance of any lane, and the lowest place that has it.
    static std::pair<Real, Integer> furthest(Vector distance, Integers place) {
        Real most = distance[0];
        for (int lane = 1; lane < kLanes; ++lane) most = std::max<Real>(most, distance[lane]);
        const Integers held = distance == Vector{} + most ? place : Integers{} + kNowhere;
        Integer first = held[0];
        for (int lane = 1; lane < kLanes; ++lane) first = std::min<Integer>(first, held[lane]);
        return {most, first};
    }

    const Real* points_;
    int64_t buckets_, groups_;
    std::vector<Vector> axes_[3], distance_;  // of points
    std::vector<Integers> place_;
    std::vector<Vector> low_[3], high_[3], most_;  // of buckets
    std::vector<Integers> first_;
};

template <class Real>
void pick_all(const Real* xyz, const int64_t* order, const int64_t* bounds, int64_t frames, int64_t count,
              int64_t* picked, int threads) {
    share(threads, frames, [&](Items& items) {
        for (int64_t frame; (frame = items.next()) >= 0;) {
            const int64_t start = bounds[frame], size = bounds[frame + 1] - start, some = std::min(count, size);
            std::vector<Real> points(3 * size);
            for (int64_t place = 0; place < size; ++place)
                std::copy_n(xyz + 3 * order[start + place], 3, &points[3 * place]);
            int64_t* of_frame = picked + frame * count;
            Spread<Real>(points.data(), size).pick(some, of_frame);
            for (int64_t step = 0; step < some; ++step) of_frame[step] = order[start + of_frame[step]];
            for (int64_t step = some; step < count; ++step) of_frame[step] = of_frame[step - some];
        }
    });
}

}  // namespace

// Picks `count` points of each frame, always the one furthest from those before: `picked` [frames][count] rows of `xyz`
// [N][3]. `bounds` [frames + 1] are the frames' first rows and N; `order` [N] has the rows of each frame in the order in
// which points that are equally far are picked. No frame is empty; one that is too small repeats its picks.
extern "C" void olivine_furthest(int wide, const void* xyz, const int64_t* order, const int64_t* bounds, int64_t frames,
                                 int64_t count, int64_t* picked, int threads) {
    if (wide) return pick_all(static_cast<const double*>(xyz), order, bounds, frames, count, picked, threads);
    pick_all(static_cast<const float*>(xyz), order, bounds, frames, count, picked, threads);
}

}  // namespace olivine
