// The kernel's filter for a packet socket, in classic BPF: only the frames of a device's lines enter its
// ring.
#pragma once

#include <linux/filter.h>

#include <cstdint>
#include <vector>

#include "receive/device_lines.hpp"

namespace fh::receive {

// Lets through IPv4 UDP to group and port of a line, from its sender if it has one, and every fragment to a
// group: those are counted, and only the first of a datagram shows its port. A VLAN tag is not seen here: the
// kernel has taken it off before, and says so beside the frame.
inline std::vector<sock_filter> packet_filter(const LineTable& lines) {
    constexpr std::uint32_t at_ethertype = 12, at_fragment = 14 + 6, at_protocol = 14 + 9;
    constexpr std::uint32_t at_source = 14 + 12, at_group = 14 + 16, at_ip = 14;
    constexpr std::uint32_t more_fragments_or_offset = 0x3FFF;
    constexpr std::uint32_t whole = 0xFFFFFFFF, nothing = 0;
    constexpr std::uint16_t load_byte = BPF_LD | BPF_B | BPF_ABS, load_half = BPF_LD | BPF_H | BPF_ABS,
                            load_word = BPF_LD | BPF_W | BPF_ABS, equal = BPF_JMP | BPF_JEQ | BPF_K,
                            any_bit = BPF_JMP | BPF_JSET | BPF_K, leave = BPF_RET | BPF_K;
    std::vector<sock_filter> out;
    const auto add = [&](std::uint16_t code, std::uint32_t k, std::uint8_t if_true = 0,
                         std::uint8_t if_false = 0) {
        out.push_back({code, if_true, if_false, k});
    };
    add(load_half, at_ethertype);
    add(equal, frame::detail::ethertype_ipv4, 1);
    add(leave, nothing);
    add(load_byte, at_protocol);
    add(equal, 17, 1);
    add(leave, nothing);
    add(BPF_LDX | BPF_B | BPF_MSH, at_ip);  // X = length of the IPv4 header
    for (const LineTable::Entry& line : lines.entries()) {
        const bool one_sender = line.source != 0;
        add(load_word, at_group);
        add(equal, line.group, 0, one_sender ? 7 : 5);
        if (one_sender) {
            add(load_word, at_source);
            add(equal, line.source, 0, 5);
        }
        add(load_half, at_fragment);
        add(any_bit, more_fragments_or_offset, 2);
        add(BPF_LD | BPF_H | BPF_IND, at_ip + 2);  // destination port
        add(equal, line.port, 0, 1);
        add(leave, whole);
    }
    add(leave, nothing);
    return out;
}

}  // namespace fh::receive
