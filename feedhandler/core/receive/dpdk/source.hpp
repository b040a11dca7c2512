// Multicast lines by DPDK: the plugin brings frames of devices, plain sockets hold the memberships.
#pragma once

#include <sched.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "receive/device_lines.hpp"
#include "receive/dpdk/device_clock.hpp"
#include "receive/dpdk/plugin.hpp"
#include "receive/dpdk/xdp_port.hpp"
#include "receive/first_turn.hpp"
#include "receive/membership.hpp"
#include "receive/packet_filter.hpp"
#include "receive/source.hpp"
#include "receive/xdp/refuse.hpp"

namespace fh::receive {

struct DpdkSettings {
    std::vector<std::pair<std::string, std::string>> ports;  // kernel's device, DPDK's
    std::vector<std::string> eal;                            // more arguments of the EAL
    bool huge_pages = false;
    std::uint64_t memory_mib = 256;
    std::uint32_t rx_descriptors = 2048;
    std::string plugin;            // "": the one of the build
    bool remove_leftover = false;  // of net_af_xdp: the program of one that was killed
    int cpu = -1;                  // of the receive thread
};

// Arguments of the EAL: in memory, without files that others find, without a socket for telemetry; it sees
// no other PCI device than ours.
inline std::vector<std::string> eal_arguments(const DpdkSettings& settings) {
    const int cpu = settings.cpu >= 0 ? settings.cpu : sched_getcpu();
    std::vector<std::string> out{"--no-telemetry", "--lcores=0@" + std::to_string(std::max(cpu, 0)), "-m",
                                 std::to_string(settings.memory_mib)};
    if (settings.huge_pages) {
        out.push_back("--in-memory");
    } else {
        out.insert(out.end(), {"--no-huge", "--no-shconf"});
    }
    bool any_card = false;
    for (const auto& [device, port] : settings.ports) {
        if (port.starts_with("net_")) continue;
        any_card = true;
        out.insert(out.end(), {"-a", port});
    }
    if (!any_card) out.push_back("--no-pci");
    out.insert(out.end(), settings.eal.begin(), settings.eal.end());
    return out;
}

// A virtual device with what it lacks: by itself net_af_packet has room for 512 frames only.
inline std::string complete_port(const std::string& port, const DpdkSettings& settings) {
    if (port.starts_with("net_af_packet") && port.find(",framecnt=") == std::string::npos)
        return port + ",framecnt=" + std::to_string(settings.rx_descriptors);
    return port;
}

class DpdkSource {
  public:
    DpdkSource(std::span<const LineSettings> lines, const DpdkSettings& settings)
        : DpdkSource(lines, lines_by_device(lines), settings) {}

    std::size_t poll(std::span<Datagram> out) {
        if (!first_turn_.over()) [[unlikely]]
            return first_turn_.poll(
                out, [this](std::size_t port, std::span<Datagram> rest) { return receive(port, rest); });
        std::size_t count = 0;
        for (std::size_t port = 0; port < ports_.size(); ++port) count += receive(port, out.subspan(count));
        return count;
    }

    std::span<const int> fds() const { return {}; }
    std::size_t line_count() const { return port_of_.size(); }
    SourceStats stats(std::size_t line) const {
        const Port& port = ports_[port_of_[line]];
        SourceStats out;
        if (port.lines.table.entries().size() == 1) out.kernel_drops = port.seen.drops;
        out.buffer_bytes = port.seen.buffer_bytes;
        out.timestamp_kind = port.timestamp_kind;
        return out;
    }
    const ReceiveCounters& counters() const { return counters_; }
    void refresh_stats() {
        counters_.device_drops = 0;
        for (std::uint32_t i = 0; i < ports_.size(); ++i) {
            Port& port = ports_[i];
            port.seen = plugin_.stats(i);
            counters_.device_drops += port.seen.drops;
            if (port.seen.has_ticks != 0)
                port.clock.compare(port.seen.ticks, port.seen.monotonic_ns, port.seen.realtime_ns);
        }
    }

    // What DPDK has said since the last time, lines. Any thread.
    std::string take_log() const { return plugin_.take_log(); }

  private:
    static constexpr std::size_t burst = 64;  // frames of a port in a turn

    struct Port {
        DeviceLines lines;
        DeviceClock clock;
        fh_dpdk_stats seen{};
        TimestampKind timestamp_kind = TimestampKind::none;
    };

    DpdkSource(std::span<const LineSettings> lines, std::vector<DeviceLines> devices,
               const DpdkSettings& settings)
        : first_turn_(devices.size()),
          port_of_(lines.size()),
          memberships_(lines),
          plugin_(open(devices, settings)) {
        ports_.reserve(devices.size());
        for (DeviceLines& device : devices) {
            for (const LineTable::Entry& entry : device.table.entries()) port_of_[entry.line] = ports_.size();
            ports_.push_back({std::move(device), {}, {}, TimestampKind::none});
        }
        refresh_stats();
    }

    // The drivers do not say what they lack.
    static void check_capabilities(const std::string& device, const std::string& port) {
        if (!port.starts_with("net_af_")) return;
        const std::string missing = xdp::missing_capabilities(port.starts_with("net_af_xdp"));
        if (!missing.empty())
            throw std::runtime_error("receive.mode \"dpdk\" on " + device + ": " + port + " needs " +
                                     missing);
    }

    DpdkPlugin open(std::span<const DeviceLines> devices, const DpdkSettings& settings) {
        std::vector<std::string> names;
        std::vector<std::vector<sock_filter>> filters;
        std::vector<sock_fprog> programs;
        for (const DeviceLines& lines : devices) {
            const auto at = std::ranges::find_if(settings.ports, [&](const auto& port) {
                return port.first == lines.device || device_named(port.first.c_str()) == lines.device;
            });
            if (at == settings.ports.end())
                throw std::runtime_error("receive.dpdk.ports: no port for device " + lines.device);
            check_capabilities(lines.device, at->second);
            names.push_back(complete_port(at->second, settings));
            if (names.back().starts_with("net_af_xdp")) {
                xdp_ports_.push_back(
                    std::make_unique<dpdk::XdpPort>(names.back(), lines, settings.remove_leftover));
                names.back() = xdp_ports_.back()->text();
            }
            filters.push_back(packet_filter(lines.table));
            programs.push_back({static_cast<unsigned short>(filters.back().size()), filters.back().data()});
        }
        std::vector<fh_dpdk_port> ports;
        for (std::size_t i = 0; i < names.size(); ++i) ports.push_back({names[i].c_str(), &programs[i]});
        return {settings.plugin, ports, eal_arguments(settings), settings.rx_descriptors};
    }

    std::size_t receive(std::size_t index, std::span<Datagram> out) {
        Port& port = ports_[index];
        // As much for each line as in other modes: a busy port leaves room for those behind it, and for
        // replies.
        const std::size_t share = port.lines.table.entries().size() * UdpReceiver::batch;
        const std::size_t most = std::min({out.size(), burst, share});
        const std::size_t frames =
            plugin_.poll(static_cast<std::uint32_t>(index), std::span(frames_).first(most));
        std::size_t count = 0;
        for (std::size_t i = 0; i < frames; ++i)
            if (take(port, frames_[i], out[count])) ++count;
        return count;
    }

    bool take(Port& port, const fh_dpdk_frame& frame, Datagram& out) {
        constexpr std::uint32_t refused = fh_dpdk_damaged | fh_dpdk_tagged | fh_dpdk_truncated;
        if ((frame.flags & refused) != 0) [[unlikely]] {
            ++((frame.flags & fh_dpdk_tagged) != 0      ? counters_.tagged
               : (frame.flags & fh_dpdk_truncated) != 0 ? counters_.bad_frames
                                                        : counters_.bad_checksums);
            return false;
        }
        const bool intact = (frame.flags & fh_dpdk_intact) != 0;
        if (!port.lines.table.take(frame.data, frame.length, intact, out, counters_)) return false;
        if ((frame.flags & fh_dpdk_has_ticks) != 0 && port.clock.known()) {
            out.ts_recv_ns = port.clock.utc_ns(frame.ticks);
            out.timestamp_kind = port.timestamp_kind = TimestampKind::hardware;
        }
        return true;
    }

    FirstTurn first_turn_;
    std::vector<std::size_t> port_of_;  // by line
    Memberships memberships_;
    std::vector<std::unique_ptr<dpdk::XdpPort>> xdp_ports_;  // before the plugin: claimed until it is closed
    DpdkPlugin plugin_;
    std::vector<Port> ports_;
    fh_dpdk_frame frames_[burst];
    ReceiveCounters counters_;
};
static_assert(Source<DpdkSource>);

}  // namespace fh::receive
