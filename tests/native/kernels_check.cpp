// Runs every kernel on random voxels, on two threads, and compares with plain loops in double precision. Built with
// sanitizers by test_sanitized.py: memory errors, undefined behaviour and races end it with a report.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <numeric>
#include <random>
#include <vector>

extern "C" {
int64_t olivine_index(const void*, int64_t, uint64_t*, int64_t);
int64_t olivine_coarsen(const void*, int64_t, const int64_t*, void*);
void* olivine_reach(const void*, int64_t, const int64_t*, int64_t*);
void olivine_take_voxels(void*, int64_t, void*);
void* olivine_pairs(const void*, uint64_t*, int64_t, const void*, int64_t, const int64_t*, int64_t, int, int, int64_t*);
void olivine_take_pairs(void*, int32_t*, int32_t*);
void olivine_exchange(const int32_t*, const int32_t*, const int64_t*, int64_t, int64_t, int32_t*, int32_t*, int);
void olivine_convolve(const float*, const float*, float*, int64_t, int64_t, int64_t, const int32_t*, const int32_t*,
                      const int64_t*, int64_t, int64_t, const float*, const float*, const float*, const float*, double,
                      const float*, int, int);
void olivine_weight_gradient(const float*, const float*, float*, int64_t, int64_t, const int32_t*, const int32_t*,
                             const int64_t*, int64_t, int);
void olivine_normalize(const float*, int64_t, int64_t, const float*, const float*, double, const float*, int, float*,
                       float*, float*, int);
void olivine_normalize_gradient(const float*, const float*, const float*, int64_t, int64_t, const float*, double,
                                const float*, const float*, float*, float*, float*, float*, int);
void olivine_measure_boxes(const double*, int64_t, const double*, int64_t, int, double*, int);
void olivine_measure_pairs(const double*, const double*, int64_t, int, double*, int);
int64_t olivine_suppress(const double*, int64_t, double, int64_t, int64_t*, int);
void olivine_furthest(int, const void*, const int64_t*, const int64_t*, int64_t, int64_t, int64_t*, int);
void olivine_balls(int, const void*, const int64_t*, const void*, const int64_t*, int64_t, int64_t, const double*,
                   const int64_t*, int64_t* const*, int);
void olivine_gather(const char*, int64_t, const int64_t*, int64_t, char*, int);
void olivine_scatter(int, const void*, const int64_t*, int64_t, int64_t, int64_t, void*, int);
}

namespace {

constexpr int kThreads = 2;
constexpr int64_t kRows = 1500, kSide = 15, kCells = 27;

std::mt19937 generator(1);

std::vector<float> random_floats(int64_t count) {
    std::normal_distribution<float> normal;
    std::vector<float> values(count);
    for (float& value : values) value = normal(generator);
    return values;
}

struct Map {
    std::vector<int32_t> in, out;
    std::vector<int64_t> starts{0};
};

std::vector<int32_t> random_voxels() {
    std::vector<int32_t> cells(kSide * kSide * kSide), voxels;
    std::iota(cells.begin(), cells.end(), 0);
    std::shuffle(cells.begin(), cells.end(), generator);
    for (int64_t row = 0; row < kRows; ++row) {
        const int32_t cell = cells[row], side = kSide;
        voxels.insert(voxels.end(), {0, cell % side - 7, cell / side % side - 7, cell / side / side - 7});
    }
    return voxels;
}

Map map_of(const std::vector<int32_t>& voxels) {
    std::vector<int64_t> offsets, sizes(kCells);
    for (int z = -1; z < 2; ++z)
        for (int y = -1; y < 2; ++y)
            for (int x = -1; x < 2; ++x) offsets.insert(offsets.end(), {x, y, z});
    std::vector<uint64_t> slots(8192);
    if (olivine_index(voxels.data(), kRows, slots.data(), slots.size()) >= 0) std::puts("a repeated voxel");
    void* pairs = olivine_pairs(voxels.data(), slots.data(), slots.size(), voxels.data(), kRows, offsets.data(), kCells,
                                1, kThreads, sizes.data());
    Map map;
    for (const int64_t size : sizes) map.starts.push_back(map.starts.back() + size);
    map.in.resize(map.starts.back());
    map.out.resize(map.starts.back());
    olivine_take_pairs(pairs, map.in.data(), map.out.data());
    for (int64_t cell = 0; cell < kCells; ++cell)
        for (int64_t p = map.starts[cell]; p < map.starts[cell + 1]; ++p)
            for (int axis = 0; axis < 3; ++axis)
                if (voxels[4 * map.in[p] + 1 + axis] - voxels[4 * map.out[p] + 1 + axis] != offsets[3 * cell + axis])
                    std::puts("a wrong pair");
    return map;
}

double worst(const std::vector<double>& truth, const std::vector<float>& found) {
    double largest = 1e-30, error = 0;
    for (size_t i = 0; i < truth.size(); ++i) {
        largest = std::max(largest, std::abs(truth[i]));
        error = std::max(error, std::abs(truth[i] - found[i]));
    }
    return error / largest;
}

double check_convolution(const Map& map, int64_t inputs, int64_t outputs) {
    const auto x = random_floats(kRows * inputs), w = random_floats(kCells * inputs * outputs),
               g = random_floats(kRows * outputs);
    std::vector<float> y(kRows * outputs), gradient(w.size());
    olivine_convolve(x.data(), w.data(), y.data(), inputs, outputs, kRows, map.in.data(), map.out.data(),
                     map.starts.data(), kCells, kCells / 2, nullptr, nullptr, nullptr, nullptr, 0, nullptr, 0, kThreads);
    olivine_weight_gradient(x.data(), g.data(), gradient.data(), inputs, outputs, map.in.data(), map.out.data(),
                            map.starts.data(), kCells, kThreads);
    std::vector<double> true_y(y.size()), true_gradient(w.size());
    for (int64_t cell = 0; cell < kCells; ++cell)
        for (int64_t p = map.starts[cell]; p < map.starts[cell + 1]; ++p)
            for (int64_t i = 0; i < inputs; ++i)
                for (int64_t o = 0; o < outputs; ++o) {
                    const int64_t at = (cell * inputs + i) * outputs + o;
                    true_y[map.out[p] * outputs + o] += double{x[map.in[p] * inputs + i]} * w[at];
                    true_gradient[at] += double{x[map.in[p] * inputs + i]} * g[map.out[p] * outputs + o];
                }
    return std::max(worst(true_y, y), worst(true_gradient, gradient));
}

double check_norm(int64_t channels) {
    const auto x = random_floats(kRows * channels), g = random_floats(kRows * channels);
    std::vector<float> weight(channels, 1.5f), bias(channels, 0.25f), mean(channels), variance(channels), out(x.size()),
        grad_x(x.size()), grad_residual(x.size()), grad_weight(channels), grad_bias(channels);
    olivine_normalize(x.data(), kRows, channels, weight.data(), bias.data(), 1e-5, g.data(), 1, mean.data(),
                      variance.data(), out.data(), kThreads);
    olivine_normalize_gradient(g.data(), out.data(), x.data(), kRows, channels, weight.data(), 1e-5, mean.data(),
                               variance.data(), grad_x.data(), grad_residual.data(), grad_weight.data(), grad_bias.data(),
                               kThreads);
    std::vector<double> truth(x.size()), true_bias(channels);
    for (int64_t c = 0; c < channels; ++c) {
        double sum = 0, squares = 0;
        for (int64_t row = 0; row < kRows; ++row) sum += x[row * channels + c];
        for (int64_t row = 0; row < kRows; ++row) squares += std::pow(x[row * channels + c] - sum / kRows, 2);
        for (int64_t row = 0; row < kRows; ++row) {
            const int64_t at = row * channels + c;
            truth[at] = 1.5 * (x[at] - sum / kRows) / std::sqrt(squares / kRows + 1e-5) + 0.25 + g[at];
            truth[at] = std::max(0.0, truth[at]);
            true_bias[c] += out[at] > 0 ? g[at] : 0;
        }
    }
    return std::max(worst(truth, out), worst(true_bias, grad_bias));
}

// Voxel sets and exchanged maps: only that they run clean and have the right sizes; Python tests compare them.
bool check_sets(const std::vector<int32_t>& voxels, const Map& map) {
    const int64_t stride[] = {2, 3, 2}, axes[] = {3, 2, 1, 1, 8, 3, 2, 1, 1, 8, 3, 1, 0, 1, 13};
    std::vector<int32_t> coarse(voxels.size()), in(map.in.size()), out(map.in.size());
    const int64_t count = olivine_coarsen(voxels.data(), kRows, stride, coarse.data());
    int64_t found = 0;
    void* reached = olivine_reach(voxels.data(), kRows, axes, &found);
    std::vector<int32_t> taken(4 * found);
    olivine_take_voxels(reached, found, taken.data());
    olivine_exchange(map.in.data(), map.out.data(), map.starts.data(), kCells, kRows, in.data(), out.data(), kThreads);
    return count > 0 && count < kRows && found > 0 && std::is_sorted(in.begin(), in.begin() + map.starts[1]);
}

// Boxes along the axes, whose overlap is plain arithmetic; and suppression, one pair at a time.
bool check_boxes() {
    constexpr int64_t kBoxes = 700;
    std::uniform_real_distribution<double> place(-9, 9), side(1, 4);
    std::vector<double> boxes, matrix(kBoxes * kBoxes), pairs(kBoxes);
    for (int64_t row = 0; row < kBoxes; ++row)
        boxes.insert(boxes.end(), {place(generator), place(generator), 0, side(generator), side(generator), 1, 0});
    olivine_measure_boxes(boxes.data(), kBoxes, boxes.data(), kBoxes, 1, matrix.data(), kThreads);
    olivine_measure_pairs(boxes.data(), boxes.data(), kBoxes, 2, pairs.data(), kThreads);
    bool right = true;
    for (int64_t a = 0; a < kBoxes; ++a)
        for (int64_t b = 0; b < kBoxes; ++b) {
            const double *one = &boxes[7 * a], *other = &boxes[7 * b];
            double shared = 1;
            for (int axis = 0; axis < 2; ++axis)
                shared *= std::max(0.0, std::min(one[axis] + one[3 + axis] / 2, other[axis] + other[3 + axis] / 2) -
                                            std::max(one[axis] - one[3 + axis] / 2, other[axis] - other[3 + axis] / 2));
            const double iou = shared / (one[3] * one[4] + other[3] * other[4] - shared);
            right &= std::abs(matrix[a * kBoxes + b] - iou) < 1e-12 && std::abs(pairs[a] - 1) < 1e-12;
        }
    std::vector<int64_t> kept(kBoxes), expected;
    kept.resize(olivine_suppress(boxes.data(), kBoxes, 0.2, kBoxes, kept.data(), kThreads));
    for (int64_t row = 0; row < kBoxes; ++row)
        if (std::none_of(expected.begin(), expected.end(), [&](int64_t k) { return matrix[k * kBoxes + row] > 0.2; }))
            expected.push_back(row);
    return right && kept == expected;
}

// Two frames of points on whole numbers, so that all distances are exact: picks and balls, one point at a time.
template <class Real>
bool check_points(int wide) {
    constexpr int64_t kPoints = 1300, kCentres = 150, kPicks = 40, kSamples = 9, kRadius = 4;
    const int64_t bounds[] = {0, 70, kPoints}, centre_bounds[] = {0, 20, kCentres};
    std::uniform_int_distribution<int> place(-12, 12);
    std::vector<Real> xyz(3 * kPoints), centres(3 * kCentres);
    for (Real& value : xyz) value = place(generator);
    for (Real& value : centres) value = place(generator);
    std::vector<int64_t> order(kPoints), picked(2 * kPicks), rows(kCentres * kSamples);
    std::iota(order.begin(), order.end(), 0);
    olivine_furthest(wide, xyz.data(), order.data(), bounds, 2, kPicks, picked.data(), kThreads);
    const double radii[] = {kRadius};
    const int64_t samples[] = {kSamples};
    int64_t* const out[] = {rows.data()};
    olivine_balls(wide, xyz.data(), bounds, centres.data(), centre_bounds, 2, 1, radii, samples, out, kThreads);
    const auto squared = [](const Real* a, const Real* b) {
        return std::pow(a[0] - b[0], 2) + std::pow(a[1] - b[1], 2) + std::pow(a[2] - b[2], 2);
    };
    bool right = true;
    for (int frame = 0; frame < 2; ++frame) {
        std::vector<double> nearest(kPoints, 1e9);
        for (int64_t step = 0, row = bounds[frame]; step < kPicks; ++step) {
            right &= picked[frame * kPicks + step] == row;
            for (int64_t other = 0; other < kPoints; ++other)
                nearest[other] = std::min<double>(nearest[other], squared(&xyz[3 * other], &xyz[3 * row]));
            row = std::max_element(&nearest[bounds[frame]], &nearest[bounds[frame + 1]]) - &nearest[0];
        }
        for (int64_t centre = centre_bounds[frame]; centre < centre_bounds[frame + 1]; ++centre) {
            std::vector<int64_t> found;
            for (int64_t row = bounds[frame]; row < bounds[frame + 1]; ++row)
                if (squared(&xyz[3 * row], &centres[3 * centre]) < kRadius * kRadius) found.push_back(row);
            found.resize(std::max<size_t>(found.size(), kSamples), found.empty() ? -1 : found[0]);
            right &= std::equal(found.begin(), found.begin() + kSamples, &rows[centre * kSamples]);
        }
    }
    std::vector<Real> grouped(3 * rows.size()), sums(xyz.size()), expected(xyz.size());
    const int64_t pairs = static_cast<int64_t>(rows.size());
    olivine_gather(reinterpret_cast<const char*>(xyz.data()), 3 * sizeof(Real), rows.data(), pairs,
                   reinterpret_cast<char*>(grouped.data()), kThreads);
    olivine_scatter(wide, grouped.data(), rows.data(), pairs, 3, kPoints, sums.data(), kThreads);
    for (int64_t i = 0; i < 3 * pairs; ++i)
        if (rows[i / 3] >= 0) expected[3 * rows[i / 3] + i % 3] += xyz[3 * rows[i / 3] + i % 3];
    return right && sums == expected;
}

}  // namespace

int main() {
    const auto voxels = random_voxels();
    const Map map = map_of(voxels);
    double error = 0;
    const int64_t channels[][2] = {{1, 1}, {3, 5}, {16, 17}, {33, 64}, {65, 31}};
    for (const auto& [inputs, outputs] : channels) {
        error = std::max(error, check_convolution(map, inputs, outputs));
        error = std::max(error, check_norm(outputs));
    }
    const bool right = check_sets(voxels, map) && check_boxes() && check_points<float>(0) && check_points<double>(1);
    std::printf("%s %.1e\n", right && error < 1e-5 ? "right" : "wrong", error);
}
