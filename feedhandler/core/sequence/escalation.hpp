// How a loss is answered, step by step: the other line is waited for (settings.arbitration_ns), then
// re-request servers are asked, again and one after the other (Requester), then a snapshot is loaded, and
// while none can be had the feed is STALE. This is the part that decides about snapshots: when to stop
// asking, when to load, when to try again.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

namespace fh::sequence {

class Escalation {
  public:
    static constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();
    static constexpr std::int64_t first_pause_ns = 100'000'000;
    static constexpr std::int64_t longest_pause_ns = 30'000'000'000;
    static constexpr std::int64_t sample_ns = 50'000'000;
    static constexpr std::uint64_t few = 1000;  // missing messages that are always worth asking for
    static constexpr unsigned most_at_end = 8;  // failed loads after which the session may end unrepaired

    // The books are not right and only a snapshot can repair them. Said as often as you like.
    void want(std::int64_t now_ns) {
        if (try_at_ns_ == never) try_at_ns_ = now_ns;
    }
    bool due(std::int64_t now_ns) const { return now_ns >= try_at_ns_; }
    std::int64_t next_ns() const { return try_at_ns_; }
    bool exhausted() const { return failures_ >= most_at_end; }

    // Each failed load doubles the pause before the next.
    void failed(std::int64_t now_ns) {
        const unsigned doublings = std::min(failures_++, 20u);
        try_at_ns_ = now_ns + std::min(first_pause_ns << doublings, longest_pause_ns);
    }
    void repaired() { *this = {}; }

    // Whether re-requests cannot close the holes before the hold is full: at the pace of the last sample,
    // what is held when the last missing message comes would not fit. Looks at most every sample_ns.
    bool hopeless(std::int64_t now_ns, std::uint64_t missing, std::uint64_t held, std::uint64_t capacity) {
        if (now_ns < sample_at_ns_) return false;
        const bool compare = sample_at_ns_ != 0 && now_ns < sample_at_ns_ + 10 * sample_ns && missing > few;
        const auto before = missing_;
        const auto held_before = held_;
        sample_at_ns_ = now_ns + sample_ns;
        missing_ = missing;
        held_ = held;
        if (!compare) return false;
        if (missing >= before) return held > capacity / 2;
        const double samples = static_cast<double>(missing) / static_cast<double>(before - missing);
        const double growth = held > held_before ? static_cast<double>(held - held_before) : 0.0;
        return static_cast<double>(held) + growth * samples > static_cast<double>(capacity);
    }

  private:
    std::int64_t try_at_ns_ = never;
    unsigned failures_ = 0;  // in a row
    std::int64_t sample_at_ns_ = 0;
    std::uint64_t missing_ = 0, held_ = 0;  // at the last sample
};

}  // namespace fh::sequence
