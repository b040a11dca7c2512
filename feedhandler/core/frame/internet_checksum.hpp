// The checksum of IPv4 and UDP (RFC 1071): whoever takes frames past the kernel must look at it himself, for
// MoldUDP64 has none of its own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "frame/byte_order.hpp"

namespace fh::frame {

namespace detail {

// Ones' complement sum of 16-bit words in memory order; an odd last byte counts as if a zero followed.
inline std::uint64_t add_words(std::uint64_t sum, const std::uint8_t* data, std::size_t length) {
    for (; length >= 4; data += 4, length -= 4) {
        std::uint32_t word;
        std::memcpy(&word, data, 4);
        sum += word;
    }
    std::uint32_t rest = 0;
    std::memcpy(&rest, data, length);
    return sum + rest;
}

inline std::uint16_t fold(std::uint64_t sum) {
    while (sum >> 16 != 0) sum = (sum & 0xFFFF) + (sum >> 16);
    return static_cast<std::uint16_t>(sum);
}

}  // namespace detail

// Over a header with its checksum in place.
inline bool is_ipv4_header_intact(const std::uint8_t* ip, std::size_t header_bytes) {
    return detail::fold(detail::add_words(0, ip, header_bytes)) == 0xFFFF;
}

// `udp`: header and payload, `length` bytes, in the datagram of the IPv4 header `ip`. No checksum (0) is
// intact. So is one of the pseudo header alone: a sender on this machine left the rest to a device that there
// was none of (veth, loopback).
inline bool is_udp_intact(const std::uint8_t* ip, const std::uint8_t* udp, std::size_t length) {
    std::uint16_t stated;
    std::memcpy(&stated, udp + 6, 2);
    if (stated == 0) return true;
    std::uint8_t pseudo[12];
    std::memcpy(pseudo, ip + 12, 8);  // both addresses
    pseudo[8] = 0;
    pseudo[9] = 17;
    store_be16(pseudo + 10, static_cast<std::uint16_t>(length));
    const std::uint64_t pseudo_sum = detail::add_words(0, pseudo, sizeof(pseudo));
    return detail::fold(detail::add_words(pseudo_sum, udp, length)) == 0xFFFF ||
           detail::fold(pseudo_sum) == stated;
}

}  // namespace fh::frame
