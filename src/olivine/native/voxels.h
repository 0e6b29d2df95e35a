// Voxels and a hash table that finds them and their neighbours.
#pragma once

#include <cstdint>

namespace olivine {

struct Voxel {
    int32_t batch, x, y, z;
};
static_assert(sizeof(Voxel) == 16, "a row of coordinates");

struct Offset {
    int64_t x, y, z;
};

inline bool is_at(const Voxel& found, const Voxel& from, const Offset& offset) {
    return found.batch == from.batch && found.x - int64_t{from.x} == offset.x && found.y - int64_t{from.y} == offset.y &&
           found.z - int64_t{from.z} == offset.z;
}

// The hash is linear, so that a neighbour's is found by one addition whatever the voxel. Its upper bits spread well
// along every axis: they walk in steps of a fixed, irrational-like fraction of the table.
inline uint64_t hash_of(int64_t batch, const Offset& at) {
    return static_cast<uint64_t>(batch) * 0xD1B54A32D192ED03u + static_cast<uint64_t>(at.x) * 0x9E3779B97F4A7C15u +
           static_cast<uint64_t>(at.y) * 0x8CB92BA72F3D8DD7u + static_cast<uint64_t>(at.z) * 0xABC98388FB8FAC03u;
}
inline uint64_t hash_of(const Voxel& voxel) { return hash_of(voxel.batch, {voxel.x, voxel.y, voxel.z}); }

// Open addressing over a power of two of slots. A slot is 0 where empty, else the lower half of the voxel's hash and
// its row + 1, so that a search that misses seldom touches the coordinates.
class Table {
public:
    Table(const Voxel* voxels, uint64_t* slots, int64_t size) : voxels_(voxels), slots_(slots), mask_(size - 1) {
        while (size >> (64 - shift_) > 1) --shift_;
    }

    // Adds a row; returns the row that holds the voxel already, or -1.
    int32_t insert(int32_t row) {
        const uint64_t hash = hash_of(voxels_[row]);
        uint64_t at = first(hash);
        for (; slots_[at]; at = (at + 1) & mask_)
            if (tagged(slots_[at], hash) && is_at(voxels_[row_of(slots_[at])], voxels_[row], {0, 0, 0}))
                return row_of(slots_[at]);
        slots_[at] = hash << 32 | static_cast<uint32_t>(row + 1);
        return -1;
    }

    // The row of the voxel `offset` away from another, or -1; `hash` is its own.
    int32_t find(const Voxel& from, const Offset& offset, uint64_t hash) const {
        for (uint64_t at = first(hash);; at = (at + 1) & mask_) {
            const uint64_t slot = slots_[at];
            if (slot == 0) return -1;
            if (tagged(slot, hash) && is_at(voxels_[row_of(slot)], from, offset)) return row_of(slot);
        }
    }

    // Whether there may be a voxel of this hash; most that do not exist are told apart.
    bool may_have(uint64_t hash) const { return slots_[first(hash)] != 0; }

private:
    uint64_t first(uint64_t hash) const { return hash >> shift_; }
    static bool tagged(uint64_t slot, uint64_t hash) { return slot >> 32 == (hash & 0xFFFFFFFFu); }
    static int32_t row_of(uint64_t slot) { return static_cast<int32_t>(static_cast<uint32_t>(slot) - 1); }

    const Voxel* voxels_;
    uint64_t* slots_;
    uint64_t mask_;
    int shift_ = 63;  // 64 less the logarithm of the number of slots
};

}  // namespace olivine
