// Kernel maps: which input row meets which output row under which kernel cell.
#include <algorithm>
#include <memory>
#include <vector>

#include "parallel.h"
#include "voxels.h"

namespace olivine {
namespace {

struct Rows {
    std::vector<int32_t> in, out;  // in ascending order of `out`
};

// What one thread finds for one cell, before it is known how much that is.
struct Found {
    std::unique_ptr<int32_t[]> in, out;
    int64_t count = 0;

    explicit Found(int64_t most) : in(new int32_t[most + 1]), out(new int32_t[most + 1]) {}
    // Adds a pair if there is an input row; without a branch, which would be mispredicted as often as not.
    void add(int32_t in_row, int32_t out_row) {
        in[count] = in_row;
        out[count] = out_row;
        count += in_row >= 0;
    }
    void move_to(Rows& rows) {
        rows.in.assign(in.get(), in.get() + count);
        rows.out.assign(out.get(), out.get() + count);
        count = 0;
    }
};

// For every output voxel, in order, the input voxel `offset` away, where there is one. `hashes` are the outputs'.
void search(const Table& table, const Voxel* outputs, const uint64_t* hashes, int64_t count, const Offset& offset,
            Found& found) {
    constexpr int64_t kAtOnce = 256;
    int32_t candidates[kAtOnce];
    const uint64_t step = hash_of(0, offset);
    for (int64_t first = 0; first < count; first += kAtOnce) {
        // Most voxels have no neighbour: those whose slot is empty are passed over without a branch to mispredict.
        int64_t some = 0;
        for (int64_t row = first; row < std::min(first + kAtOnce, count); ++row) {
            candidates[some] = static_cast<int32_t>(row);
            some += table.may_have(hashes[row] + step);
        }
        for (int64_t i = 0; i < some; ++i) {
            const int32_t row = candidates[i];
            found.add(table.find(outputs[row], offset, hashes[row] + step), row);
        }
    }
}

// The pairs of the cell opposite in a centred kernel: the same the other way round, in the order of their new outputs.
void mirror(const Rows& rows, int64_t count, int32_t* partner, Found& found) {
    std::fill_n(partner, count, -1);
    for (size_t pair = 0; pair < rows.in.size(); ++pair) partner[rows.in[pair]] = rows.out[pair];
    for (int64_t row = 0; row < count; ++row) found.add(partner[row], static_cast<int32_t>(row));
}

}  // namespace

extern "C" {

// Fills `slots` (zeros, a power of two above `count`) with the rows of `voxels`. Returns -1, or a row that repeats an
// earlier one.
int64_t olivine_index(const Voxel* voxels, int64_t count, uint64_t* slots, int64_t size) {
    Table table(voxels, slots, size);
    for (int64_t row = 0; row < count; ++row)
        if (table.insert(static_cast<int32_t>(row)) >= 0) return row;
    return -1;
}

// The pairs of a convolution, cell by cell; `offsets` [cells][3] point from an output voxel to the input voxel. With
// `centred`, inputs and outputs are one and the offsets point-symmetric. Free the result by taking it.
std::vector<Rows>* olivine_pairs(const Voxel* inputs, uint64_t* slots, int64_t size, const Voxel* outputs,
                                 int64_t out_count, const Offset* offsets, int64_t cells, int centred, int threads,
                                 int64_t* sizes) {
    const Table table(inputs, slots, size);
    const std::unique_ptr<uint64_t[]> hashes(new uint64_t[out_count]);
    for (int64_t row = 0; row < out_count; ++row) hashes[row] = hash_of(outputs[row]);
    auto result = std::make_unique<std::vector<Rows>>(cells);
    share(threads, centred ? (cells + 1) / 2 : cells, [&](Items& items) {
        Found found(out_count);
        const std::unique_ptr<int32_t[]> partner(new int32_t[centred ? out_count : 0]);
        for (int64_t cell; (cell = items.next()) >= 0;) {
            Rows& rows = (*result)[cell];
            search(table, outputs, hashes.get(), out_count, offsets[cell], found);
            found.move_to(rows);
            if (!centred || cell == cells / 2) continue;
            mirror(rows, out_count, partner.get(), found);
            found.move_to((*result)[cells - 1 - cell]);
        }
    });
    for (int64_t cell = 0; cell < cells; ++cell) sizes[cell] = static_cast<int64_t>((*result)[cell].in.size());
    return result.release();
}

// Copies pairs to arrays of the sizes told before, and frees them.
void olivine_take_pairs(std::vector<Rows>* pairs, int32_t* in_rows, int32_t* out_rows) {
    const std::unique_ptr<std::vector<Rows>> owned(pairs);
    for (const Rows& rows : *owned) {
        in_rows = std::copy(rows.in.begin(), rows.in.end(), in_rows);
        out_rows = std::copy(rows.out.begin(), rows.out.end(), out_rows);
    }
}

// The pairs with both sides exchanged, each cell in the order of what is now the output: `rows` (below `count`, distinct
// within a cell) becomes `sorted` and takes its `partners` along.
void olivine_exchange(const int32_t* rows, const int32_t* partners, const int64_t* starts, int64_t cells, int64_t count,
                      int32_t* sorted, int32_t* sorted_partners, int threads) {
    share(threads, cells, [&](Items& items) {
        const std::unique_ptr<int32_t[]> partner(new int32_t[count]);
        Found found(count);
        for (int64_t cell; (cell = items.next()) >= 0;) {
            const int64_t from = starts[cell], to = starts[cell + 1];
            std::fill_n(partner.get(), count, -1);
            for (int64_t pair = from; pair < to; ++pair) partner[rows[pair]] = partners[pair];
            for (int64_t row = 0; row < count; ++row) found.add(partner[row], static_cast<int32_t>(row));
            std::copy_n(found.out.get(), found.count, sorted + from);
            std::copy_n(found.in.get(), found.count, sorted_partners + from);
            found.count = 0;
        }
    });
}

}  // extern "C"
}  // namespace olivine
