// The [receive] table as Python hands it over, a dictionary with one more per mode, to ReceiveSettings.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <map>
#include <string>
#include <vector>

#include "receive/any_source.hpp"

namespace fh::bind {

// Sets `field` from `table[key]` when it is there: what is left out keeps its default.
template <class T>
void take(const nanobind::dict& table, const char* key, T& field) {
    if (table.contains(key)) field = nanobind::cast<T>(table[key]);
}

// Keys that belong to others (cpu, line_down_s) are passed over.
inline receive::ReceiveSettings receive_settings(const nanobind::dict& table) {
    receive::ReceiveSettings out;
    take(table, "mode", out.mode);
    take(table, "spin", out.spin);
    if (table.contains("packet")) {
        const auto packet = nanobind::cast<nanobind::dict>(table["packet"]);
        take(packet, "ring_mib", out.packet.ring_mib);
    }
    if (table.contains("xdp")) {
        const auto xdp = nanobind::cast<nanobind::dict>(table["xdp"]);
        take(xdp, "attach", out.xdp.attach);
        take(xdp, "zero_copy", out.xdp.zero_copy);
        take(xdp, "frames", out.xdp.frames);
        take(xdp, "busy_poll", out.xdp.busy_poll);
        take(xdp, "queues", out.xdp.queues);
    }
    if (table.contains("onload")) {
        const auto onload = nanobind::cast<nanobind::dict>(table["onload"]);
        take(onload, "require", out.onload.require);
        take(onload, "stack", out.onload.stack);
        take(onload, "zero_copy", out.onload.zero_copy);
    }
    if (table.contains("dpdk")) {
        const auto dpdk = nanobind::cast<nanobind::dict>(table["dpdk"]);
        std::map<std::string, std::string> ports;
        take(dpdk, "ports", ports);
        out.dpdk.ports.assign(ports.begin(), ports.end());
        take(dpdk, "eal", out.dpdk.eal);
        take(dpdk, "huge_pages", out.dpdk.huge_pages);
        take(dpdk, "memory_mib", out.dpdk.memory_mib);
        take(dpdk, "rx_descriptors", out.dpdk.rx_descriptors);
        take(dpdk, "plugin", out.dpdk.plugin);
        take(dpdk, "remove_leftover", out.dpdk.remove_leftover);
        take(table, "cpu", out.dpdk.cpu);
    }
    return out;
}

}  // namespace fh::bind
