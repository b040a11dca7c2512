// A packet as a frame of a pcap record: Ethernet, IPv4 and UDP headers made from what is known of it, with
// right checksums. They are what tells a whole record from a torn one: power may fail between any two pages.
// What they do not cover, the record's times and lengths and the MACs, is summed up in the IPv4
// identification, which has no meaning where nothing is fragmented (RFC 6864).
//
// The source MAC is 02:46:48:4a:KK:LL ("FHJ"): KK the TimestampKind with its doubt, LL the line's index, from
// max_lines on the re-request server's. So a reader knows a journal's frames and the replies among them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "frame/byte_order.hpp"
#include "message.hpp"
#include "publish/packet_ring.hpp"

namespace fh::journal {

inline constexpr std::size_t ethernet_header = 14, ip_header = 20, udp_header = 8;
inline constexpr std::size_t frame_headers = ethernet_header + ip_header + udp_header;
inline constexpr std::uint8_t mac_prefix[4] = {0x02, 0x46, 0x48, 0x4a};

// The sum of big-endian words (RFC 1071), in any byte order of the machine as the sum itself is swapped at
// the end.
inline std::uint64_t add_words(std::uint64_t sum, const std::uint8_t* data, std::size_t length) {
    std::size_t at = 0;
    for (; at + 4 <= length; at += 4) {
        std::uint32_t word;
        std::memcpy(&word, data + at, 4);
        sum += word;
    }
    if (at < length) {
        std::uint8_t rest[4] = {};
        std::memcpy(rest, data + at, length - at);
        std::uint32_t word;
        std::memcpy(&word, rest, 4);
        sum += word;
    }
    return sum;
}
// As it stands in the header: stored with memcpy.
inline std::uint16_t fold(std::uint64_t sum) {
    while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<std::uint16_t>(~sum);
}
inline std::uint64_t add_pseudo_header(std::uint64_t sum, const std::uint8_t* ip, std::size_t udp_length) {
    std::uint8_t rest[4] = {0, 17, 0, 0};
    frame::store_be16(rest + 2, static_cast<std::uint16_t>(udp_length));
    return add_words(add_words(sum, ip + 12, 8), rest, sizeof rest);
}

inline void put_mac(std::uint8_t* to, std::uint32_t group) {
    to[0] = 0x01, to[1] = 0x00, to[2] = 0x5e;
    frame::store_be32(to + 2, (group & 0x007fffff) | 0x5e000000);
}

inline constexpr std::size_t pcap_record = 16;  // two words of time, the length twice

inline std::uint16_t identification(const std::uint8_t* record, const std::uint8_t* frame) {
    return fold(add_words(add_words(0, record, pcap_record), frame, 12));
}

// Writes frame_headers + payload bytes behind `record`, the header of the pcap record. Unknown addresses and
// ports are 0: of lines who sends, of replies to whom.
inline void put_frame(std::uint8_t* out, const std::uint8_t* record, const publish::PacketHeader& packet,
                      const std::uint8_t* payload, const publish::PacketOrigin& origin) {
    const bool reply = packet.line >= max_lines;
    std::uint8_t* ip = out + ethernet_header;
    std::uint8_t* udp = ip + ip_header;
    if (reply)
        std::memset(out, 0, 6);
    else
        put_mac(out, origin.address);
    std::memcpy(out + 6, mac_prefix, sizeof mac_prefix);
    out[10] = static_cast<std::uint8_t>(packet.timestamp_kind);
    out[11] = packet.line;
    frame::store_be16(out + 12, 0x0800);
    std::memset(ip, 0, ip_header + udp_header);
    ip[0] = 0x45;
    frame::store_be16(ip + 2, static_cast<std::uint16_t>(ip_header + udp_header + packet.payload));
    const std::uint16_t of_record = identification(record, out);
    std::memcpy(ip + 4, &of_record, 2);
    ip[6] = 0x40;  // do not fragment
    ip[8] = 1;     // time to live
    ip[9] = 17;    // UDP
    frame::store_be32(ip + 12, reply ? origin.address : origin.source);
    frame::store_be32(ip + 16, reply ? 0 : origin.address);
    frame::store_be16(udp, reply ? origin.port : 0);
    frame::store_be16(udp + 2, reply ? 0 : origin.port);
    const std::size_t udp_length = udp_header + packet.payload;
    frame::store_be16(udp + 4, static_cast<std::uint16_t>(udp_length));
    std::memcpy(udp + udp_header, payload, packet.payload);
    const std::uint16_t of_ip = fold(add_words(0, ip, ip_header));
    std::memcpy(ip + 10, &of_ip, 2);
    std::uint16_t of_udp = fold(add_pseudo_header(add_words(0, udp, udp_length), ip, udp_length));
    if (of_udp == 0) of_udp = 0xffff;  // 0 means none
    std::memcpy(udp + 6, &of_udp, 2);
}

inline bool is_journal_frame(const std::uint8_t* data, std::size_t length) {
    return length >= frame_headers && std::equal(mac_prefix, mac_prefix + sizeof mac_prefix, data + 6);
}
// Of a journal's frame: is it the reply of a re-request server?
inline bool is_reply(const std::uint8_t* data) { return data[11] >= max_lines; }
// The kind of its time, with its doubt.
inline TimestampKind timestamp_kind(const std::uint8_t* data) {
    const auto kind = static_cast<TimestampKind>(data[10]);
    return data[10] <= static_cast<unsigned>(in_doubt(TimestampKind::hardware)) ? kind : TimestampKind::none;
}

// Is it a frame as put_frame writes it, every bit of it? (A checksum misses one fault in 65,535.)
inline bool is_whole_frame(const std::uint8_t* record, const std::uint8_t* data, std::size_t length) {
    if (!is_journal_frame(data, length) || data[11] >= max_lines + max_servers) return false;
    const std::uint8_t* ip = data + ethernet_header;
    const std::uint8_t* udp = ip + ip_header;
    const std::size_t udp_length = length - ethernet_header - ip_header;
    if (frame::load_be16(data + 12) != 0x0800 || ip[0] != 0x45 || ip[9] != 17) return false;
    if (frame::load_be16(ip + 2) != length - ethernet_header || frame::load_be16(udp + 4) != udp_length)
        return false;
    const std::uint16_t of_record = identification(record, data);
    if (std::memcmp(ip + 4, &of_record, 2) != 0) return false;
    if (frame::load_be16(udp + 6) == 0 || fold(add_words(0, ip, ip_header)) != 0) return false;
    return fold(add_pseudo_header(add_words(0, udp, udp_length), ip, udp_length)) == 0;
}

}  // namespace fh::journal
