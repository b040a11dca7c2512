// All receive modes; which one is decided once, when the feed is made.
#pragma once

#include <span>
#include <stdexcept>
#include <string>
#include <variant>

#include "receive/dpdk/source.hpp"
#include "receive/multicast.hpp"
#include "receive/onload_source.hpp"
#include "receive/packet_source.hpp"
#include "receive/socket.hpp"
#include "receive/source.hpp"
#include "receive/xdp/source.hpp"

namespace fh::receive {

struct ReceiveSettings {
    std::string mode = "socket";
    bool spin = true;  // false: block in the kernel when nothing comes
    PacketSettings packet;
    XdpSettings xdp;
    OnloadSettings onload;
    DpdkSettings dpdk;
};

using AnySource = std::variant<SocketSource, PacketSource, XdpSource, OnloadSource, DpdkSource>;

// Joins the lines. Throws when they cannot be had that way.
inline AnySource open_source(std::span<const LineSettings> lines, const ReceiveSettings& settings) {
    if (settings.mode == "socket") return AnySource(std::in_place_type<SocketSource>, lines, settings.spin);
    if (settings.mode == "packet") return AnySource(std::in_place_type<PacketSource>, lines, settings.packet);
    if (settings.mode == "xdp")
        return AnySource(std::in_place_type<XdpSource>, lines, settings.xdp, settings.spin);
    if (settings.mode == "onload")
        return AnySource(std::in_place_type<OnloadSource>, lines, settings.onload, settings.spin);
    if (settings.mode == "dpdk") return AnySource(std::in_place_type<DpdkSource>, lines, settings.dpdk);
    throw std::invalid_argument("receive.mode: \"" + settings.mode + "\" is not in this build");
}

}  // namespace fh::receive
