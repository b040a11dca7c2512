// Opens and joins the UDP socket of one multicast line.
#pragma once

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <system_error>

#include "receive/udp_receiver.hpp"

namespace fh::receive {

struct LineSettings {
    std::string name;
    std::string group;  // IPv4 multicast address
    std::uint16_t port = 0;
    std::string interface;  // an address or a device name
    std::string source;     // source-specific multicast; "" = any source
};

inline constexpr int wanted_buffer_bytes =
    64 << 20;  // rides out 50 ms without the processor at the busiest rates seen
inline constexpr int busy_poll_us = 50;

inline in_addr parse_address(const std::string& text) {
    in_addr address{};
    if (inet_pton(AF_INET, text.c_str(), &address) != 1)
        throw std::invalid_argument('"' + text + "\" is not an IPv4 address");
    return address;
}

inline void require(bool ok, const std::string& what) {
    if (!ok) throw std::system_error(errno, std::generic_category(), what);
}

template <class T>
bool set_option(int fd, int level, int name, const T& value) {
    return setsockopt(fd, level, name, &value, sizeof(value)) == 0;
}

inline void join(int fd, const LineSettings& line) {
    const std::string what = "line " + line.name + ": join " + line.group + " on " + line.interface;
    const in_addr group = parse_address(line.group);
    in_addr address{};
    const bool by_address = inet_pton(AF_INET, line.interface.c_str(), &address) == 1;
    const unsigned index = by_address ? 0 : if_nametoindex(line.interface.c_str());
    if (!by_address) require(index != 0, what);
    if (line.source.empty()) {
        const ip_mreqn request{group, address, static_cast<int>(index)};
        require(set_option(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, request), what);
    } else if (by_address) {
        const ip_mreq_source request{group, address, parse_address(line.source)};
        require(set_option(fd, IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP, request), what + " from " + line.source);
    } else {  // ip_mreq_source has no room for a device index
        group_source_req request{};
        request.gsr_interface = index;
        const sockaddr_in group_address{AF_INET, 0, group, {}};
        const sockaddr_in source_address{AF_INET, 0, parse_address(line.source), {}};
        std::memcpy(&request.gsr_group, &group_address, sizeof(group_address));
        std::memcpy(&request.gsr_source, &source_address, sizeof(source_address));
        require(set_option(fd, IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP, request), what + " from " + line.source);
    }
}

// Asks for everything that helps, takes what is given and says what that was.
inline SourceStats tune(int fd, bool spin) {
    SourceStats granted;
    granted.buffer_forced = set_option(fd, SOL_SOCKET, SO_RCVBUFFORCE, wanted_buffer_bytes);
    if (!granted.buffer_forced) set_option(fd, SOL_SOCKET, SO_RCVBUF, wanted_buffer_bytes);
    int bytes = 0;
    socklen_t length = sizeof(bytes);
    getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, &length);
    granted.buffer_bytes = static_cast<std::uint64_t>(bytes);
    set_option(fd, SOL_SOCKET, SO_RXQ_OVFL, 1);
    ask_for_timestamps(fd);
    if (spin) {
        granted.busy_poll = set_option(fd, SOL_SOCKET, SO_BUSY_POLL, busy_poll_us);
        granted.prefer_busy_poll = set_option(fd, SOL_SOCKET, SO_PREFER_BUSY_POLL, 1);
    }
    return granted;
}

// Bound to group:port, so that unicast and other groups on the same port stay out; IP_MULTICAST_ALL=0, so
// that the same group joined by another line on another interface does too.
inline UdpReceiver open_line(const LineSettings& line, std::uint16_t index, bool spin) {
    Descriptor fd(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    require(fd.get() >= 0, "line " + line.name + ": socket");
    require(set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1), "line " + line.name + ": SO_REUSEADDR");
    require(set_option(fd.get(), IPPROTO_IP, IP_MULTICAST_ALL, 0),
            "line " + line.name + ": IP_MULTICAST_ALL");
    const SourceStats granted = tune(fd.get(), spin);
    const sockaddr_in address{AF_INET, htons(line.port), parse_address(line.group), {}};
    require(::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0,
            "line " + line.name + ": bind " + line.group + ":" + std::to_string(line.port));
    join(fd.get(), line);
    return {std::move(fd), index, granted};
}

}  // namespace fh::receive
