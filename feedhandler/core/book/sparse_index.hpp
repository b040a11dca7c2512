// Order reference to handle by hashing, for references that are far from their neighbours. Open addressing,
// linear probing, deletion by shifting back, so that it never fills up with tombstones.
#pragma once

#include <bit>
#include <cstdint>

#include "book/memory.hpp"

namespace fh::book {

class SparseIndex {
  public:
    // At most `capacity` references at once; twice as many places keep the probes short.
    explicit SparseIndex(std::uint32_t capacity)
        : mask_(std::bit_ceil(std::uint64_t{capacity} * 2) - 1),
          shift_(64 - static_cast<unsigned>(std::bit_width(mask_))),
          entries_(mask_ + 1, Pages::small) {}

    std::uint32_t size() const { return size_; }
    // Where the handle is, most likely.
    const std::uint32_t* place(std::uint64_t reference) const { return &entries_[home(reference)].handle; }

    std::uint32_t find(std::uint64_t reference) const {
        std::uint64_t i = home(reference);
        while (entries_[i].handle != 0 && entries_[i].reference != reference) i = (i + 1) & mask_;
        return entries_[i].handle;
    }

    // Of a reference that is not in it.
    void insert(std::uint64_t reference, std::uint32_t handle) {
        std::uint64_t i = home(reference);
        while (entries_[i].handle != 0) i = (i + 1) & mask_;
        entries_[i] = {reference, handle, 0};
        ++size_;
    }

    void erase(std::uint64_t reference) {
        std::uint64_t hole = home(reference);
        while (entries_[hole].reference != reference || entries_[hole].handle == 0) {
            if (entries_[hole].handle == 0) return;
            hole = (hole + 1) & mask_;
        }
        // Whatever was pushed past the hole by collisions moves into it.
        for (std::uint64_t i = (hole + 1) & mask_; entries_[i].handle != 0; i = (i + 1) & mask_) {
            if (((i - home(entries_[i].reference)) & mask_) < ((i - hole) & mask_)) continue;
            entries_[hole] = entries_[i];
            hole = i;
        }
        entries_[hole] = {};
        --size_;
    }

    void clear() {
        if (size_ != 0) entries_.reset();
        size_ = 0;
    }

  private:
    struct Entry {
        std::uint64_t reference;
        std::uint32_t handle;  // 0: free
        std::uint32_t reserved;
    };
    std::uint64_t home(std::uint64_t reference) const {
        return (reference * 0x9E3779B97F4A7C15ull) >> shift_;
    }

    std::uint64_t mask_;
    unsigned shift_;
    Reserved<Entry> entries_;
    std::uint32_t size_ = 0;
};

}  // namespace fh::book
