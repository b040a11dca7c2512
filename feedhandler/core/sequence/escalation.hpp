// How a loss is answered, step by step: the other line is waited for (settings.arbitration_ns), then
// re-request servers are asked, again and one after the other (Requester, Servers), then a snapshot is
// loaded, and while none can be had the feed is STALE. Here is which step the feed is at, and what is decided
// about snapshots: when to stop asking, when to load, when to try again. Pure: times and counts in, decisions
// out.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "event.hpp"
#include "publish/counters.hpp"

namespace fh::sequence {

class Escalation {
  public:
    static constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();
    static constexpr std::int64_t first_pause_ns = 100'000'000;
    static constexpr std::int64_t longest_pause_ns = 30'000'000'000;
    static constexpr std::int64_t sample_ns = 50'000'000;
    static constexpr unsigned doubts_needed = 2;  // samples in a row
    static constexpr std::uint64_t few = 1000;    // missing messages that are always worth asking for
    static constexpr unsigned most_at_end = 8;  // loads failed since its end: the session may end unrepaired

    // ---- the step

    struct Situation {
        bool loading;  // a snapshot
        bool lost;     // messages are lost for good, or were never seen
        bool missing;  // a hole is open
        Step asking;   // other_line, request, retry or next_server: the furthest since holes are open
    };
    static constexpr Step step_of(const Situation& now) {
        if (now.loading) return Step::snapshot;
        if (now.lost) return Step::stale;
        return now.missing ? now.asking : Step::none;
    }

    // ---- when to load a snapshot

    // The books are not right and only a snapshot can repair them. Said as often as you like.
    void want(std::int64_t now_ns) {
        if (try_at_ns_ == never) try_at_ns_ = now_ns;
    }
    bool due(std::int64_t now_ns) const { return now_ns >= try_at_ns_; }
    std::int64_t next_ns() const { return try_at_ns_; }
    bool exhausted() const { return failures_at_end_ >= most_at_end; }

    // Each failed load doubles the pause before the next. Those before the session's end say nothing of those
    // after it: what was missing then may be known now.
    void failed(std::int64_t now_ns, bool at_end) {
        const unsigned doublings = std::min(at_end ? failures_at_end_++ : failures_++, 20u);
        try_at_ns_ = now_ns + std::min(first_pause_ns << doublings, longest_pause_ns);
    }
    // It goes on.
    void was_not_the_end() { failures_at_end_ = 0; }
    void repaired() { *this = {}; }

    // ---- when to stop asking

    struct Progress {
        std::uint64_t missing;    // numbers known to exist that are not in
        std::uint64_t recovered;  // messages that ever filled a hole
        std::uint64_t end;        // one past the highest known number
        std::uint64_t waiting;    // messages behind a hole: held, or refused because the hold was full
        std::uint64_t capacity;   // of the hold
    };

    // Whether re-requests cannot ever catch up with the feed, at the pace of the last samples: when the holes
    // close at that pace what waits behind them does not fit into the hold, so it will be missing too; and
    // messages are filled no faster than the feed brings new ones, so this never ends. Looks at most every
    // sample_ns.
    bool hopeless(std::int64_t now_ns, const Progress& now) {
        if (now_ns < sample_at_ns_) return false;
        const Progress before = before_;
        const bool compare = sample_at_ns_ != 0;
        sample_at_ns_ = now_ns + sample_ns;
        before_ = now;
        const bool doubt = compare && !fits(before, now) && !outruns(before, now);
        doubts_ = doubt ? doubts_ + 1 : 0;
        return doubts_ >= doubts_needed;
    }
    // No hole is open: the next one starts from new samples.
    void calm() { sample_at_ns_ = doubts_ = 0; }

  private:
    static bool fits(const Progress& before, const Progress& now) {
        if (now.waiting <= now.capacity / 2 && now.missing <= few) return true;
        if (now.missing >= before.missing) return now.waiting <= now.capacity / 2;
        const auto samples =
            static_cast<double>(now.missing) / static_cast<double>(before.missing - now.missing);
        const double growth =
            now.waiting > before.waiting ? static_cast<double>(now.waiting - before.waiting) : 0.0;
        return static_cast<double>(now.waiting) + growth * samples <= static_cast<double>(now.capacity);
    }
    static bool outruns(const Progress& before, const Progress& now) {
        return now.recovered - before.recovered > now.end - before.end;
    }

    std::int64_t try_at_ns_ = never;
    unsigned failures_ = 0;  // in a row
    unsigned failures_at_end_ = 0;
    std::int64_t sample_at_ns_ = 0;
    unsigned doubts_ = 0;  // in a row
    Progress before_{};    // at the last sample
};

}  // namespace fh::sequence
