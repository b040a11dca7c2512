// A device's clock, by comparison with the host's: its ticks to UTC nanoseconds.
#pragma once

#include <cmath>
#include <cstdint>

namespace fh::receive {

class DeviceClock {
  public:
    // So far apart must two comparisons be before the clock's rate follows from them; a rate that is known
    // already gives way only to one of a longer time.
    static constexpr std::int64_t shortest_baseline_ns = 50'000'000;
    static constexpr std::int64_t better_baseline_ns = 10'000'000'000;

    // All three read at once. The rate comes from the monotonic clock, which nobody sets.
    void compare(std::uint64_t ticks, std::int64_t monotonic_ns, std::int64_t realtime_ns) {
        if (!seen_ || was_set(ticks, monotonic_ns)) {
            seen_ = true;
            first_ticks_ = ticks;
            first_monotonic_ns_ = monotonic_ns;
            least_baseline_ns_ = known() ? better_baseline_ns : shortest_baseline_ns;
        }
        const std::int64_t baseline_ns = monotonic_ns - first_monotonic_ns_;
        const auto passed = static_cast<std::int64_t>(ticks - first_ticks_);
        if (baseline_ns >= least_baseline_ns_ && passed > 0)
            ns_per_tick_ = static_cast<double>(baseline_ns) / static_cast<double>(passed);
        ticks_ = ticks;
        monotonic_ns_ = monotonic_ns;
        realtime_ns_ = realtime_ns;
    }

    // Not before its rate is known can the clock be read.
    bool known() const { return ns_per_tick_ != 0; }

    // Ticks a little earlier or later than those of the last comparison.
    std::int64_t utc_ns(std::uint64_t ticks) const {
        const auto passed = static_cast<double>(static_cast<std::int64_t>(ticks - ticks_));
        return realtime_ns_ + static_cast<std::int64_t>(passed * ns_per_tick_);
    }

  private:
    // Since the last comparison, or one of the two was interrupted: no clock runs a thousandth too fast.
    bool was_set(std::uint64_t ticks, std::int64_t monotonic_ns) const {
        constexpr double interrupted_ns = 100'000;
        const auto passed = static_cast<std::int64_t>(ticks - ticks_);
        if (!known()) return passed < 0;
        const auto real_ns = static_cast<double>(monotonic_ns - monotonic_ns_);
        return std::abs(static_cast<double>(passed) * ns_per_tick_ - real_ns) >
               real_ns / 1000 + interrupted_ns;
    }

    bool seen_ = false;
    std::uint64_t first_ticks_ = 0;
    std::int64_t first_monotonic_ns_ = 0;
    std::int64_t least_baseline_ns_ = shortest_baseline_ns;
    std::uint64_t ticks_ = 0;
    std::int64_t monotonic_ns_ = 0;
    std::int64_t realtime_ns_ = 0;
    double ns_per_tick_ = 0;
};

}  // namespace fh::receive
