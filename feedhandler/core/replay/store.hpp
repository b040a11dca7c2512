// Where each message of the input lies in the file, by sequence number: what the simulated re-request server
// answers from.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "receive/file_bytes.hpp"

namespace fh::replay {

// Blocks of consecutive numbers that lie back to back in the file.
struct Run {
    std::uint64_t first;
    const std::uint8_t* blocks;
    std::uint32_t bytes;
    std::uint16_t count;
    bool doubtful;  // the time that they were received at
    std::uint64_t end() const { return first + count; }
};

class SessionStore {
  public:
    // Runs may come in any order and overlap; those that lie back to back become one, up to run_messages,
    // since a run is walked block by block when it is asked for.
    void add(const Run& run) {
        if (run.count == 0) return;
        if (!runs_.empty()) {
            Run& last = runs_.back();
            if (run.first >= last.first && run.end() <= last.end()) return;  // the other line's copy
            if (run.first == last.end() && run.blocks == last.blocks + last.bytes &&
                run.doubtful == last.doubtful && last.count + run.count <= run_messages) {
                last.bytes += run.bytes;
                last.count = static_cast<std::uint16_t>(last.count + run.count);
                return;
            }
            sorted_ = sorted_ && run.first >= last.end();
        }
        runs_.push_back(run);
    }

    // To be called once after the last add(): afterwards firsts and ends both rise.
    void seal() {
        if (!sorted_) {
            std::stable_sort(runs_.begin(), runs_.end(),
                             [](const Run& a, const Run& b) { return a.first < b.first; });
            std::vector<Run> kept;
            for (const Run& run : runs_) {
                if (kept.empty() || run.end() > kept.back().end()) kept.push_back(run);
            }
            runs_ = std::move(kept);
            sorted_ = true;
        }
        runs_.shrink_to_fit();
    }

    // Appends the blocks of as many consecutive messages from `sequence` on as are held, wanted, and fit into
    // `room` bytes (one always fits) to `out`; returns how many, and whether one of their times is doubtful.
    struct Copied {
        std::uint16_t count = 0;
        bool doubtful = false;
    };
    Copied copy(std::uint64_t sequence, std::uint16_t wanted, std::size_t room,
                std::vector<std::uint8_t>& out) const {
        Copied copied;
        auto run = std::upper_bound(runs_.begin(), runs_.end(), sequence,
                                    [](std::uint64_t s, const Run& r) { return s < r.first; });
        if (run == runs_.begin()) return copied;
        for (--run; run != runs_.end() && run->first <= sequence && sequence < run->end(); ++run) {
            const std::uint8_t* block = run->blocks;
            for (std::uint64_t at = run->first; at < run->end() && copied.count < wanted; ++at) {
                const std::size_t bytes = 2u + (static_cast<std::size_t>(block[0]) << 8 | block[1]);
                if (at >= sequence) {
                    if (copied.count > 0 && out.size() + bytes > room) return copied;
                    out.insert(out.end(), block, block + bytes);
                    ++copied.count;
                    copied.doubtful |= run->doubtful;
                    ++sequence;
                }
                block += bytes;
            }
        }
        return copied;
    }

    const std::vector<Run>& runs() const { return runs_; }

  private:
    static constexpr std::uint32_t run_messages = 64;
    std::vector<Run> runs_;
    bool sorted_ = true;
};

using SessionName = std::array<char, 10>;

// One session of the input.
struct InputSession {
    SessionName name{};
    std::uint64_t first = 0;           // lowest number
    std::uint64_t end = 0;             // one behind the highest number, by whatever packet told it
    std::uint64_t packets_before = 0;  // packets of the input before its first
    std::int64_t day_ns = 0;           // UTC, of its first message: that day it belongs to
    SessionStore store;
};

}  // namespace fh::replay
