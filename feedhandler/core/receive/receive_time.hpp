// When a datagram arrived, in UTC, and whether that can be trusted: a pure function of the time that came
// with it, what is known of the clocks, and now.
#pragma once

#include <cstdint>

#include "message.hpp"

namespace fh::receive {

// What is known of the clocks, as of the last look (docs/time.md).
struct ClockTrust {
    bool system = false;                // the kernel's clock is within the limits
    bool hardware = false;              // so are the clocks of the lines' devices
    std::int64_t hardware_lead_ns = 0;  // those run ahead of UTC by this: TAI
    std::int64_t feed_error_ns = 0;     // the system's clock minus the feed's own
};

// The feed's clock is read after the datagram was taken, so a time after it is wrong. It follows the
// system's clock to some 0.1 ms.
inline constexpr std::int64_t most_ahead_ns = 1'000'000;
// A datagram that waited longer in its buffer cannot be told from one with a wrong time.
inline constexpr std::int64_t most_behind_ns = 1'000'000'000;

// Further from the host's time no time scale is: the device's clock was never set. (TAI is 37 s ahead.)
inline constexpr std::int64_t never_set_ns = 100'000'000'000;
constexpr bool was_ever_set(std::int64_t hardware_ns, std::int64_t host_ns) {  // both are >= 0
    const std::int64_t apart_ns = hardware_ns - host_ns;
    return apart_ns < never_set_ns && apart_ns > -never_set_ns;
}

// ts_recv_ns and now_ns: UTC; now_ns of the feed's own clock.
constexpr bool is_trusted(TimestampKind kind, std::int64_t ts_recv_ns, std::int64_t now_ns,
                          const ClockTrust& clocks) {
    if (ts_recv_ns > now_ns + most_ahead_ns || ts_recv_ns < now_ns - most_behind_ns) return false;
    switch (kind) {
        case TimestampKind::hardware:
            return clocks.hardware && clocks.system;
        case TimestampKind::kernel:
            return clocks.system;
        case TimestampKind::user:  // of the feed's own clock, which a step of the system's leaves behind
            return clocks.system && clocks.feed_error_ns <= most_ahead_ns &&
                   clocks.feed_error_ns >= -most_ahead_ns;
        default:
            return false;
    }
}

// The datagram with its time in UTC, and its kind with the doubt that there is. Where a device's clock was
// never set, and there is no time of the kernel's beside, it is now.
constexpr Datagram with_receive_time(Datagram datagram, std::int64_t now_ns, const ClockTrust& clocks) {
    if (datagram.timestamp_kind == TimestampKind::hardware) {
        if (was_ever_set(datagram.ts_recv_ns, now_ns)) {
            datagram.ts_recv_ns -= clocks.hardware_lead_ns;
        } else {
            datagram.ts_recv_ns = now_ns;
            datagram.timestamp_kind = TimestampKind::user;
        }
    }
    if (!is_trusted(datagram.timestamp_kind, datagram.ts_recv_ns, now_ns, clocks)) [[unlikely]]
        datagram.timestamp_kind = in_doubt(datagram.timestamp_kind);
    return datagram;
}

}  // namespace fh::receive
