// What the kernel says of a network device.
#pragma once

#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "receive/udp_receiver.hpp"

namespace fh::receive {

// The device's own name: an address may have a label ("eth0:1"), a device further names. "": there is none.
inline std::string device_named(const char* name) {
    char own[IF_NAMESIZE] = "";
    const unsigned index = if_nametoindex(name);
    return index != 0 && if_indextoname(index, own) != nullptr ? own : "";
}

namespace detail {

inline bool ask_device(unsigned long request, const std::string& device, ifreq& question) {
    device.copy(question.ifr_name, IFNAMSIZ - 1);
    const Descriptor any(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    return ioctl(any.get(), request, &question) == 0;
}

}  // namespace detail

// Nothing: errno says why not.
inline std::optional<std::size_t> mtu_of(const std::string& device) {
    ifreq question{};
    if (!detail::ask_device(SIOCGIFMTU, device, question)) return std::nullopt;
    return static_cast<std::size_t>(question.ifr_mtu);
}

struct ReceiveQueues {
    std::uint32_t all = 1;       // a device that knows no channels has one
    std::uint32_t combined = 0;  // of a device that has such
};
inline ReceiveQueues receive_queues(const std::string& device) {
    ethtool_channels channels{};
    channels.cmd = ETHTOOL_GCHANNELS;
    ifreq question{};
    question.ifr_data = reinterpret_cast<char*>(&channels);
    if (!detail::ask_device(SIOCETHTOOL, device, question)) return {};
    return {std::max(channels.rx_count + channels.combined_count, 1u),
            channels.max_combined != 0 ? std::max(channels.combined_count, 1u) : 0};
}

}  // namespace fh::receive
