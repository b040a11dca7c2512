// Lines by network device, and which line a frame of that device belongs to: for every receive mode that
// takes frames instead of datagrams.
#pragma once

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "frame/ethernet.hpp"
#include "frame/internet_checksum.hpp"
#include "publish/counters.hpp"
#include "receive/multicast.hpp"
#include "receive/network_device.hpp"
#include "receive/source.hpp"

namespace fh::receive {

// Device of a line, which names it or one of its addresses. Throws when there is none.
inline std::string device_of(const LineSettings& line) {
    if (std::string device = device_named(line.interface.c_str()); !device.empty()) return device;
    in_addr wanted{};
    ifaddrs* list = nullptr;
    if (inet_pton(AF_INET, line.interface.c_str(), &wanted) == 1 && getifaddrs(&list) == 0) {
        const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(list, freeifaddrs);
        for (const ifaddrs* one = list; one != nullptr; one = one->ifa_next) {
            if (one->ifa_addr == nullptr || one->ifa_addr->sa_family != AF_INET) continue;
            sockaddr_in address;
            std::memcpy(&address, one->ifa_addr, sizeof(address));
            if (address.sin_addr.s_addr == wanted.s_addr) return device_named(one->ifa_name);
        }
    }
    throw std::runtime_error("line " + line.name + ": \"" + line.interface +
                             "\" is no device or address of this machine");
}

// Which line a UDP datagram of one device belongs to.
class LineTable {
  public:
    void add(std::uint16_t line, const LineSettings& settings) {
        entries_.push_back({ntohl(parse_address(settings.group).s_addr),
                            settings.source.empty() ? 0 : ntohl(parse_address(settings.source).s_addr),
                            settings.port, line});
    }

    struct Entry {
        std::uint32_t group;   // host order, as all here
        std::uint32_t source;  // 0 = any
        std::uint16_t port;
        std::uint16_t line;
    };
    std::span<const Entry> entries() const { return entries_; }

    // Takes the datagram out of an Ethernet frame of which all `length` bytes are there, or counts why not.
    // `intact`: somebody has looked at the checksums. Sets payload and line of `out`.
    bool take(const std::uint8_t* frame, std::size_t length, bool intact, Datagram& out,
              ReceiveCounters& counters) const {
        constexpr std::size_t ip_at = 14;
        if (length >= ip_at && frame::detail::is_vlan_tag(frame::load_be16(frame + 12))) [[unlikely]] {
            ++counters.tagged;
            return false;
        }
        const frame::UdpDatagram udp = frame::parse_frame(frame::LinkType::ethernet, frame, length);
        if (udp.refusal != frame::Refusal::none) [[unlikely]] {
            count(udp.refusal, counters);
            return false;
        }
        const Entry* entry = find(udp);
        if (entry == nullptr) {
            ++counters.other_traffic;
            return false;
        }
        const std::uint8_t* ip = frame + ip_at;
        const std::uint8_t* header = udp.payload - 8;
        if (!intact && !(frame::is_ipv4_header_intact(ip, static_cast<std::size_t>(header - ip)) &&
                         frame::is_udp_intact(ip, header, udp.length + 8))) [[unlikely]] {
            ++counters.bad_checksums;
            return false;
        }
        out = {udp.payload, static_cast<std::uint32_t>(udp.length), entry->line, TimestampKind::none, 0};
        return true;
    }

  private:
    const Entry* find(const frame::UdpDatagram& udp) const {
        for (const Entry& entry : entries_)  // a handful: a search would cost more
            if (entry.group == udp.destination && entry.port == udp.destination_port &&
                (entry.source == 0 || entry.source == udp.source))
                return &entry;
        return nullptr;
    }

    static void count(frame::Refusal why, ReceiveCounters& counters) {
        switch (why) {
            case frame::Refusal::fragment:
                ++counters.fragments;
                break;
            case frame::Refusal::truncated:
            case frame::Refusal::bad_ipv4:
            case frame::Refusal::bad_udp:
                ++counters.bad_frames;
                break;
            default:
                ++counters.other_traffic;
        }
    }

    std::vector<Entry> entries_;
};

struct DeviceLines {
    std::string device;
    unsigned index = 0;  // of the device
    LineTable table;
};

inline std::vector<DeviceLines> lines_by_device(std::span<const LineSettings> lines) {
    std::vector<DeviceLines> out;
    for (std::size_t i = 0; i < lines.size(); ++i) {
        const std::string device = device_of(lines[i]);
        auto at = std::ranges::find(out, device, &DeviceLines::device);
        if (at == out.end()) at = out.insert(out.end(), {device, if_nametoindex(device.c_str()), {}});
        at->table.add(static_cast<std::uint16_t>(i), lines[i]);
    }
    return out;
}

}  // namespace fh::receive
