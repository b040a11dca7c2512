// Captured frames: link, VLAN, IPv4 and UDP headers off.
#pragma once

#include <cstddef>
#include <cstdint>

#include "frame/byte_order.hpp"

namespace fh::frame {

// Link types as pcap and pcapng files number them (tcpdump.org/linktypes.html).
enum class LinkType : std::uint16_t {
    bsd_loopback = 0,
    ethernet = 1,
    raw_ip_openbsd = 12,
    raw_ip_bsdos = 14,
    raw_ip = 101,
    openbsd_loopback = 108,
    linux_cooked = 113,
    ipv4 = 228,
    linux_cooked_v2 = 276,
};

// Why a frame is not taken.
enum class Refusal : std::uint8_t {
    none,
    link_type,
    truncated,
    not_ipv4,
    bad_ipv4,
    fragment,
    not_udp,
    bad_udp
};
inline constexpr const char* refusal_names[] = {"none",     "link_type", "truncated", "not_ipv4",
                                                "bad_ipv4", "fragment",  "not_udp",   "bad_udp"};
inline constexpr std::size_t refusal_count = sizeof refusal_names / sizeof refusal_names[0];

struct UdpDatagram {
    Refusal refusal;
    const std::uint8_t* payload;  // the rest is set only when refusal is none
    std::size_t length;           // bytes of payload
    std::uint32_t source;         // addresses and ports in host order
    std::uint32_t destination;
    std::uint16_t source_port;
    std::uint16_t destination_port;
};

namespace detail {

inline constexpr std::uint16_t ethertype_ipv4 = 0x0800;

inline bool is_vlan_tag(std::uint16_t ethertype) {
    return ethertype == 0x8100 || ethertype == 0x88A8 || ethertype == 0x9100;
}

inline constexpr UdpDatagram refuse(Refusal why) { return {why, nullptr, 0, 0, 0, 0, 0}; }

inline UdpDatagram parse_udp(const std::uint8_t* udp, std::size_t length, UdpDatagram out) {
    if (length < 8) return refuse(Refusal::bad_udp);
    const std::size_t udp_length = load_be16(udp + 4);
    if (udp_length < 8 || udp_length > length) return refuse(Refusal::bad_udp);
    out.source_port = load_be16(udp);
    out.destination_port = load_be16(udp + 2);
    out.payload = udp + 8;
    out.length = udp_length - 8;
    return out;
}

// Lengths are believed as far as the header says, not the frame: short frames are padded, some captures keep
// the checksum.
inline UdpDatagram parse_ipv4(const std::uint8_t* ip, std::size_t captured) {
    if (captured < 20) return refuse(Refusal::truncated);
    if (ip[0] >> 4 != 4) return refuse(Refusal::not_ipv4);
    const std::size_t header = static_cast<std::size_t>(ip[0] & 0x0F) * 4;
    const std::size_t total = load_be16(ip + 2);
    if (header < 20 || total < header) return refuse(Refusal::bad_ipv4);
    if (total > captured) return refuse(Refusal::truncated);
    constexpr std::uint16_t more_fragments_or_offset = 0x3FFF;
    if ((load_be16(ip + 6) & more_fragments_or_offset) != 0) return refuse(Refusal::fragment);
    if (ip[9] != 17) return refuse(Refusal::not_udp);
    UdpDatagram out = refuse(Refusal::none);
    out.source = load_be32(ip + 12);
    out.destination = load_be32(ip + 16);
    return parse_udp(ip + header, total - header, out);
}

// `at` is where an ethertype stands, with the next header right behind it (behind `gap` bytes for the cooked
// v2 header).
inline UdpDatagram parse_ethertype(const std::uint8_t* frame, std::size_t captured, std::size_t at,
                                   std::size_t gap = 0) {
    if (captured < at + 2 + gap) return refuse(Refusal::truncated);
    std::uint16_t ethertype = load_be16(frame + at);
    at += 2 + gap;
    while (is_vlan_tag(ethertype)) {
        if (captured < at + 4) return refuse(Refusal::truncated);
        ethertype = load_be16(frame + at + 2);
        at += 4;
    }
    if (ethertype != ethertype_ipv4) return refuse(Refusal::not_ipv4);
    return parse_ipv4(frame + at, captured - at);
}

}  // namespace detail

// The UDP datagram in a frame of which `captured` bytes are there. Fragments are refused whole: half a
// datagram is none.
inline UdpDatagram parse_frame(LinkType link, const std::uint8_t* frame, std::size_t captured) {
    switch (link) {
        case LinkType::ethernet:
            return detail::parse_ethertype(frame, captured, 12);
        case LinkType::linux_cooked:
            return detail::parse_ethertype(frame, captured, 14);
        case LinkType::linux_cooked_v2:
            return detail::parse_ethertype(frame, captured, 0, 18);
        case LinkType::raw_ip:
        case LinkType::raw_ip_openbsd:
        case LinkType::raw_ip_bsdos:
        case LinkType::ipv4:
            return detail::parse_ipv4(frame, captured);
        case LinkType::bsd_loopback:
        case LinkType::openbsd_loopback:  // 4 bytes of address family, in an order of the capturing host's
            if (captured < 4) return detail::refuse(Refusal::truncated);
            return detail::parse_ipv4(frame + 4, captured - 4);
    }
    return detail::refuse(Refusal::link_type);
}

}  // namespace fh::frame
