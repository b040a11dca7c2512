// What is known of the host's clocks: seen by the supervising thread, used and published by the receive
// thread.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "message.hpp"
#include "publish/counters.hpp"
#include "receive/clock.hpp"
#include "receive/receive_time.hpp"

namespace fh::receive {

class ClockWatch {
  public:
    // `hardware_by_system`: what brings hardware times compares the devices' clocks with the system's itself.
    explicit ClockWatch(bool hardware_by_system = false) : hardware_by_system_(hardware_by_system) {}

    // Any thread. The receive thread may see some words of this call and some of the one before: for a turn.
    void set(const ClockCounters& seen, bool always_trusted) {
        const auto values = std::bit_cast<Words>(seen);
        for (std::size_t i = 0; i < words; ++i) seen_[i].store(values[i], std::memory_order_relaxed);
        always_trusted_.store(always_trusted, std::memory_order_release);
    }

    // ---- the receive thread

    const ClockTrust& trust() const { return trust_; }

    void take(ClockCounters& out) {
        const bool always = always_trusted_.load(std::memory_order_acquire);
        Words values;
        for (std::size_t i = 0; i < words; ++i) values[i] = seen_[i].load(std::memory_order_relaxed);
        out = std::bit_cast<ClockCounters>(values);
        out.feed_error_ns = static_cast<std::uint64_t>(std::abs(trust_.feed_error_ns));
        trust_.system = always || out.trusted != 0;
        trust_.hardware = hardware_by_system_ ? trust_.system : always || out.hardware_trusted != 0;
        if (!hardware_by_system_)
            trust_.hardware_lead_ns = static_cast<std::int64_t>(out.hardware_lead_s) * 1'000'000'000;
    }

    // The system's clock against the feed's own, which is CLOCK_MONOTONIC + `offset_ns`. A comparison that
    // was interrupted says nothing.
    void compare(std::int64_t offset_ns) {
        constexpr std::int64_t interrupted_ns = 100'000;
        const std::int64_t before_ns = read_clock(CLOCK_MONOTONIC);
        const std::int64_t system_ns = read_clock(CLOCK_REALTIME);
        const std::int64_t after_ns = read_clock(CLOCK_MONOTONIC);
        if (after_ns - before_ns < interrupted_ns)
            trust_.feed_error_ns = system_ns - (before_ns + (after_ns - before_ns) / 2 + offset_ns);
    }

  private:
    static constexpr std::size_t words = sizeof(ClockCounters) / 8;
    using Words = std::array<std::uint64_t, words>;

    bool hardware_by_system_;
    std::array<std::atomic<std::uint64_t>, words> seen_{};
    std::atomic<bool> always_trusted_{false};
    ClockTrust trust_;
};

inline void count_time(LineCounters& line, TimestampKind kind) {
    const TimestampKind told = without_doubt(kind);
    line.timestamp_kind = static_cast<std::uint64_t>(told);
    line.user_times += told == TimestampKind::user;
    line.kernel_times += told == TimestampKind::kernel;
    line.hardware_times += told == TimestampKind::hardware;
    line.bad_times += is_doubtful(kind);
}

}  // namespace fh::receive
