// The newest holes, for `gaps CHANNEL`: written by the arbiter in place, copied out by whoever publishes
// them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "publish/layout.hpp"

namespace fh::sequence {

// Hole i (counted from 0 since start-up) lies at i % gap_history until hole i + gap_history takes its place.
// An entry changes while its hole is open; `version()` changes with every change of any entry.
class GapHistory {
  public:
    GapHistory() : records_(std::make_unique<GapRecord[]>(gap_history)) {}

    std::uint64_t count() const { return count_; }
    std::uint64_t version() const { return version_; }
    const GapRecord* records() const { return records_.get(); }  // gap_history of them

    std::uint64_t open(std::int64_t now_ns, SequenceRange hole) {
        records_[count_ % gap_history] = {now_ns, 0, hole.first, hole.end - 1, 0, 0, 0, 0};
        ++version_;
        return count_++;
    }
    // Null when newer holes have pushed it out.
    GapRecord* find(std::uint64_t index) {
        ++version_;
        return index + gap_history >= count_ ? &records_[index % gap_history] : nullptr;
    }

  private:
    std::unique_ptr<GapRecord[]> records_;
    std::uint64_t count_ = 0;
    std::uint64_t version_ = 0;
};

}  // namespace fh::sequence
