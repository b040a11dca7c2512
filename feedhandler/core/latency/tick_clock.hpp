// Stamps that cost some nanoseconds: the processor's time stamp counter where it runs at one rate on all
// cores, else CLOCK_MONOTONIC. Ticks are compared between processes of one machine, never between machines.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <limits>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace fh::latency {

enum class TickSource : std::uint32_t { monotonic = 0, tsc = 1 };

inline std::uint64_t monotonic_ticks() {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC, &time);
    return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(time.tv_nsec);
}

// Waits for what stands before it to be done: a hop of 30 ns would else be smeared over its neighbours.
inline std::uint64_t read_ticks(TickSource source) {
#if defined(__x86_64__)
    if (source == TickSource::tsc) [[likely]] {
        unsigned core;
        return __builtin_ia32_rdtscp(&core);
    }
#endif
    (void)source;
    return monotonic_ticks();
}

// Invariant by the processor's word, and not given up by the kernel. Reads a file: for the start only.
inline TickSource best_tick_source() {
#if defined(__x86_64__)
    unsigned a = 0, b = 0, c = 0, d = 0;
    const bool rdtscp = __get_cpuid(0x80000001, &a, &b, &c, &d) != 0 && (d >> 27 & 1) != 0;
    const bool invariant = __get_cpuid(0x80000007, &a, &b, &c, &d) != 0 && (d >> 8 & 1) != 0;
    if (!rdtscp || !invariant) return TickSource::monotonic;
    char text[256] = {};
    std::FILE* file = std::fopen("/sys/devices/system/clocksource/clocksource0/available_clocksource", "re");
    if (file == nullptr) return TickSource::tsc;
    const bool read = std::fgets(text, sizeof text, file) != nullptr;
    std::fclose(file);
    return read && std::strstr(text, "tsc") == nullptr ? TickSource::monotonic : TickSource::tsc;
#else
    return TickSource::monotonic;
#endif
}

// The same moment by both clocks.
struct TickReading {
    std::uint64_t ticks;
    std::uint64_t ns;  // CLOCK_MONOTONIC
};

// The tightest of some: nothing came between the two clocks.
inline TickReading read_both(TickSource source) {
    TickReading best{};
    std::uint64_t tightest = std::numeric_limits<std::uint64_t>::max();
    for (int i = 0; i < 8; ++i) {
        const std::uint64_t before = read_ticks(source);
        const std::uint64_t ns = monotonic_ticks();
        const std::uint64_t width = read_ticks(source) - before;
        if (width >= tightest) continue;
        tightest = width;
        best = {before + width / 2, ns};
    }
    return best;
}

__extension__ typedef unsigned __int128 Wide;  // no pedant's business: users include this header

inline std::uint64_t to_ns(std::uint64_t ticks, std::uint64_t scale) {
    return static_cast<std::uint64_t>(static_cast<Wide>(ticks) * scale >> 32);
}

// How long a tick lasts, from readings: over all the time since the first, the longer the better. A rate that
// has changed by more than a thousandth (a virtual machine moved to another host) is a new beginning.
class Calibration {
  public:
    static constexpr std::uint64_t least_ns = 1'000'000;  // between readings; nearer ones say nothing

    Calibration(const TickReading& first, const TickReading& second)
        : first_(first), last_(second), scale_(rate(first, second)) {}

    void observe(const TickReading& now) {
        if (now.ns - last_.ns < least_ns) return;
        if (now.ticks <= last_.ticks) {  // the counter was reset: the rate stays, until the next look tells
            ++restarts_;
            first_ = last_ = now;
            return;
        }
        const std::uint64_t recent = rate(last_, now);
        const std::uint64_t difference = recent > scale_ ? recent - scale_ : scale_ - recent;
        if (difference > scale_ / 1000) {
            ++restarts_;
            first_ = last_;
        }
        scale_ = rate(first_, now);
        last_ = now;
    }

    std::uint64_t scale() const { return scale_; }  // ns per tick, times 2^32
    std::uint64_t restarts() const { return restarts_; }

  private:
    static std::uint64_t rate(const TickReading& from, const TickReading& to) {
        const std::uint64_t ticks = std::max<std::uint64_t>(to.ticks - from.ticks, 1);
        return static_cast<std::uint64_t>((static_cast<Wide>(to.ns - from.ns) << 32) / ticks);
    }

    TickReading first_;
    TickReading last_;
    std::uint64_t scale_;
    std::uint64_t restarts_ = 0;
};

// What the receive thread stamps with. Takes 20 ms to make: once, at the start.
class TickClock {
  public:
    explicit TickClock(TickSource source = best_tick_source())
        : source_(source), calibration_(calibrated(source)) {
        std::uint64_t least = std::numeric_limits<std::uint64_t>::max();
        for (int round = 0; round < 32; ++round) {
            const std::uint64_t start = ticks();
            for (int i = 0; i < 16; ++i) (void)ticks();
            least = std::min(least, (ticks() - start) / 17);
        }
        stamp_ns_ = to_ns(least, scale());
    }

    std::uint64_t ticks() const { return read_ticks(source_); }
    static std::int64_t utc_ns() {
        timespec time{};
        clock_gettime(CLOCK_REALTIME, &time);
        return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
    }
    void recheck() { calibration_.observe(read_both(source_)); }

    TickSource source() const { return source_; }
    std::uint64_t scale() const { return calibration_.scale(); }
    std::uint64_t recalibrated() const { return calibration_.restarts(); }
    std::uint64_t stamp_ns() const { return stamp_ns_; }

  private:
    static Calibration calibrated(TickSource source) {
        const TickReading first = read_both(source);
        while (monotonic_ticks() - first.ns < 20'000'000) {
        }
        return {first, read_both(source)};
    }

    TickSource source_;
    Calibration calibration_;
    std::uint64_t stamp_ns_ = 0;
};

}  // namespace fh::latency
