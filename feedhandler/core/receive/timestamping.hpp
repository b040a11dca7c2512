// Receive times out of the control messages of a socket: SO_TIMESTAMPING, whatever the socket is accelerated
// by.
#pragma once

#include <linux/net_tstamp.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <optional>
#include <span>

#include "message.hpp"
#include "receive/receive_time.hpp"

namespace fh::receive {

// That setsockopt succeeds says nothing: it does without any hardware clock too. What comes says it.
inline bool ask_for_timestamps(int fd) {
    const int flags = SOF_TIMESTAMPING_RX_HARDWARE | SOF_TIMESTAMPING_RAW_HARDWARE |
                      SOF_TIMESTAMPING_RX_SOFTWARE | SOF_TIMESTAMPING_SOFTWARE;
    if (setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &flags, sizeof(flags)) == 0) return true;
    const int on = 1;
    return setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on)) == 0;
}

// What is read here, together; the kernel cuts what does not fit.
inline constexpr std::size_t timestamping_control_bytes =
    CMSG_SPACE(3 * sizeof(timespec)) + CMSG_SPACE(sizeof(std::uint32_t));

struct ControlTimes {
    std::int64_t software_ns = 0;  // CLOCK_REALTIME; 0 = none
    std::int64_t hardware_ns = 0;  // as the device's clock tells it, which may be TAI; 0 = none
    std::optional<std::uint32_t> drops;
};

// 0 for what is no time: all zero means "none", and a time before 1970 or beyond 2262 is a broken one.
inline std::int64_t to_ns(const timespec& time) {
    constexpr std::int64_t latest_s = 9'223'372'035;
    if (time.tv_sec < 0 || time.tv_sec > latest_s || time.tv_nsec < 0 || time.tv_nsec > 999'999'999) return 0;
    return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

// Believes nothing: a message may be cut short, come twice or be of no known type. Of what comes twice the
// first that says something counts.
inline ControlTimes read_control(std::span<const std::uint8_t> control) {
    ControlTimes out;
    const auto take = [](std::int64_t& into, std::span<const std::uint8_t> data, std::size_t index) {
        timespec time;
        if (into != 0 || data.size() < (index + 1) * sizeof(time)) return;
        std::memcpy(&time, data.data() + index * sizeof(time), sizeof(time));
        into = to_ns(time);
    };
    constexpr std::size_t header_bytes = CMSG_LEN(0);
    while (control.size() >= header_bytes) {
        cmsghdr header;
        std::memcpy(&header, control.data(), sizeof(header));
        if (header.cmsg_len < header_bytes || header.cmsg_len > control.size()) break;
        const auto data = control.subspan(header_bytes, header.cmsg_len - header_bytes);
        if (header.cmsg_level == SOL_SOCKET && header.cmsg_type == SCM_TIMESTAMPING) {
            if (data.size() >= 3 * sizeof(timespec)) {  // [1] has no meaning any more
                take(out.software_ns, data, 0);
                take(out.hardware_ns, data, 2);
            }
        } else if (header.cmsg_level == SOL_SOCKET && header.cmsg_type == SCM_TIMESTAMPNS) {
            take(out.software_ns, data, 0);
        } else if (header.cmsg_level == SOL_SOCKET && header.cmsg_type == SO_RXQ_OVFL) {
            std::uint32_t drops;
            if (!out.drops && data.size() >= sizeof(drops)) {
                std::memcpy(&drops, data.data(), sizeof(drops));
                out.drops = drops;
            }
        }
        const std::size_t next = CMSG_ALIGN(header.cmsg_len);
        if (next >= control.size()) break;
        control = control.subspan(next);
    }
    return out;
}

// Gives the datagram the best time that came. A hardware time stays in the scale of its clock.
inline void set_receive_time(Datagram& datagram, const ControlTimes& times) {
    const bool set = times.software_ns == 0 || was_ever_set(times.hardware_ns, times.software_ns);
    if (times.hardware_ns != 0 && set) {
        datagram.ts_recv_ns = times.hardware_ns;
        datagram.timestamp_kind = TimestampKind::hardware;
    } else if (times.software_ns != 0) {
        datagram.ts_recv_ns = times.software_ns;
        datagram.timestamp_kind = TimestampKind::kernel;
    }
}

}  // namespace fh::receive
