// The one clock: UTC nanoseconds that never run backwards.
#pragma once

#include <algorithm>
#include <cstdint>
#include <ctime>

namespace fh::receive {

inline std::int64_t read_clock(clockid_t id) {
    timespec time{};
    clock_gettime(id, &time);
    return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

// CLOCK_MONOTONIC plus an offset that follows CLOCK_REALTIME slowly, so that a step of the system's clock
// neither fires every timer at once nor runs time backwards. Times are arguments: read() does the reading.
class FeedClock {
  public:
    static constexpr std::int64_t anchor_interval_ns = 100'000'000;
    // An error below this is slewed at 1/1000. Beyond it (a stepped clock, a machine that slept) waiting for
    // that would take hours: forward it jumps, backward it runs at half speed until it agrees.
    static constexpr std::int64_t large_error_ns = 1'000'000'000;

    FeedClock() : FeedClock(read_clock(CLOCK_MONOTONIC), read_clock(CLOCK_REALTIME)) {}
    FeedClock(std::int64_t monotonic_ns, std::int64_t realtime_ns)
        : monotonic_ns_(monotonic_ns), anchored_ns_(monotonic_ns), offset_ns_(realtime_ns - monotonic_ns) {}

    // One clock read; a second one each anchor_interval_ns.
    std::int64_t read() {
        monotonic_ns_ = read_clock(CLOCK_MONOTONIC);
        if (monotonic_ns_ - anchored_ns_ >= anchor_interval_ns)
            anchor(monotonic_ns_, read_clock(CLOCK_REALTIME));
        return monotonic_ns_ + offset_ns_;
    }

    // As of the last read.
    std::int64_t monotonic_ns() const { return monotonic_ns_; }
    std::int64_t now_ns() const { return monotonic_ns_ + offset_ns_; }

    void anchor(std::int64_t monotonic_ns, std::int64_t realtime_ns) {
        const std::int64_t elapsed = monotonic_ns - anchored_ns_;
        const std::int64_t error = realtime_ns - monotonic_ns - offset_ns_;
        const std::int64_t slew = elapsed / 1000;
        if (error > large_error_ns) {
            offset_ns_ += error;
        } else if (error < -large_error_ns) {
            offset_ns_ -= elapsed / 2;  // less than has passed since: the sum still grows
        } else {
            offset_ns_ += std::clamp(error, -slew, slew);
        }
        monotonic_ns_ = monotonic_ns;
        anchored_ns_ = monotonic_ns;
    }

  private:
    std::int64_t monotonic_ns_;
    std::int64_t anchored_ns_;
    std::int64_t offset_ns_;
};

}  // namespace fh::receive
