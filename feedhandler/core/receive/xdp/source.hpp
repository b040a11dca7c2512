// Multicast lines by AF_XDP: the driver's frames before the kernel's IP stack has seen them; the stack itself
// keeps everything else, and what of the lines comes by it all the same is not lost.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "receive/device_lines.hpp"
#include "receive/socket.hpp"
#include "receive/source.hpp"
#include "receive/xdp/attachment.hpp"
#include "receive/xdp/filter.hpp"
#include "receive/xdp/queue.hpp"

namespace fh::receive {

struct XdpSettings {
    std::string attach = "auto";     // native, generic
    std::string zero_copy = "auto";  // on, off
    std::uint32_t frames = 4096;     // of each queue; a power of two
    bool busy_poll = true;
    std::vector<std::uint32_t> queues;  // none: all
};

class XdpDevice {
  public:
    XdpDevice(DeviceLines lines, const XdpSettings& settings, bool spin)
        : device_(std::move(lines)),
          what_("receive.mode \"xdp\" on " + device_.device),
          wanted_queues_(settings.queues.empty() ? all_queues() : settings.queues),
          frame_bytes_(xdp::frame_bytes_for(mtu())),
          filter_(device_.table, frame_bytes_ - xdp::frame_headroom, std::ranges::max(wanted_queues_) + 1,
                  what_),
          attachment_(attach(settings.attach)) {
        queues_.reserve(wanted_queues_.size());
        for (const std::uint32_t queue : wanted_queues_) {
            queues_.emplace_back(queue_settings(queue, settings, spin), what_);
            xdp::need(filter_.redirect(queue, queues_.back().fd()), what_,
                      "queue " + std::to_string(queue) + ": redirecting to its socket");
        }
    }

    const LineTable& table() const { return device_.table; }
    std::span<const xdp::Queue> queues() const { return queues_; }

    // Another queue is read first each time: a busy one does not keep others waiting, nor a device those
    // behind it.
    std::size_t receive(std::span<Datagram> out, ReceiveCounters& counters) {
        out = out.first(std::min(out.size(), table().entries().size() * UdpReceiver::batch));
        std::size_t count = 0;
        if (++first_ >= queues_.size()) first_ = 0;
        for (std::size_t i = 0, at = first_; i < queues_.size(); ++i) {
            count += queues_[at].receive(out.subspan(count), device_.table, counters);
            if (++at == queues_.size()) at = 0;
        }
        if (count != 0) timestamp_kind_ = out[count - 1].timestamp_kind;
        return count;
    }

    void refresh_stats() {
        for (xdp::Queue& queue : queues_) queue.refresh_stats();
    }
    std::uint64_t drops() const {
        std::uint64_t out = 0;
        for (const xdp::Queue& queue : queues_) out += queue.drops();
        return out;
    }

    // Of all its lines.
    SourceStats stats() const {
        SourceStats out;
        out.timestamp_kind = timestamp_kind_;
        out.frame_times = filter_.frame_times();
        out.attached = attachment_.native() ? "native" : "generic";
        out.queues = static_cast<std::uint32_t>(queues_.size());
        out.zero_copy = std::ranges::all_of(queues_, &xdp::Queue::zero_copy);
        out.huge_pages = std::ranges::all_of(queues_, [](const auto& q) { return q.umem().huge_pages(); });
        out.busy_poll = out.prefer_busy_poll = std::ranges::all_of(queues_, &xdp::Queue::busy_poll);
        for (const xdp::Queue& queue : queues_) {
            out.buffer_bytes += queue.umem().bytes();
            out.napi_id = std::max(out.napi_id, queue.napi_id());
        }
        return out;
    }

  private:
    // With the driver's times, where it has any to give.
    xdp::Attachment attach(const std::string& wanted) {
        if (wanted != "generic" && filter_.load_for(device_.index)) {
            if (auto made = xdp::Attachment::natively(filter_.program(), device_.index))
                return std::move(*made);
            filter_.load_for_any_device(what_);
        }
        return {filter_.program(), device_.index, wanted, what_};
    }

    std::vector<std::uint32_t> all_queues() const {
        std::vector<std::uint32_t> out(receive_queues(device_.device).all);
        std::iota(out.begin(), out.end(), 0u);
        return out;
    }

    std::size_t mtu() const {
        const auto found = mtu_of(device_.device);
        xdp::need(found.has_value(), what_, "MTU");
        return *found;
    }

    xdp::QueueSettings queue_settings(std::uint32_t queue, const XdpSettings& settings, bool spin) const {
        xdp::QueueSettings out{device_.index, queue, settings.frames, frame_bytes_, 0, false};
        if (settings.zero_copy == "on") out.bind_flags = XDP_ZEROCOPY;
        if (settings.zero_copy == "off" || (!attachment_.native() && settings.zero_copy == "auto"))
            out.bind_flags = XDP_COPY;
        // Where frames do not come from a driver's NAPI there is nothing to poll.
        out.busy_poll = spin && settings.busy_poll && attachment_.native();
        return out;
    }

    DeviceLines device_;
    std::string what_;
    std::vector<std::uint32_t> wanted_queues_;
    std::size_t frame_bytes_;
    xdp::Filter filter_;
    xdp::Attachment attachment_;
    std::vector<xdp::Queue> queues_;
    std::size_t first_ = 0;
    TimestampKind timestamp_kind_ = TimestampKind::none;
};

class XdpSource {
  public:
    // The sockets of the kernel are looked at on each so many turns, and before the loop sleeps.
    static constexpr unsigned kernel_turns = 256;

    // The sockets come last: with the memberships packets begin to come.
    XdpSource(std::span<const LineSettings> lines, const XdpSettings& settings, bool spin)
        : XdpSource(lines, lines_by_device(lines), settings, spin) {}

    std::size_t poll(std::span<Datagram> all) {
        const std::span<Datagram> out = all.first(std::min(all.size(), limit_));
        std::size_t count = 0;
        if (++turn_ % kernel_turns == 0) [[unlikely]]
            count = poll_kernel(out);
        for (XdpDevice& device : devices_) count += device.receive(out.subspan(count), counters_);
        if (count == 0 && !spin_) count = poll_kernel(out);
        return count;
    }

    std::span<const int> fds() const { return fds_; }
    std::size_t line_count() const { return device_of_.size(); }
    SourceStats stats(std::size_t line) const {
        const XdpDevice& device = devices_[device_of_[line]];
        SourceStats out = device.stats();
        out.kernel_drops = sockets_.stats(line).kernel_drops;
        if (device.table().entries().size() == 1) out.kernel_drops += device.drops();
        return out;
    }
    const ReceiveCounters& counters() const { return counters_; }
    void refresh_stats() {
        counters_.device_drops = 0;
        for (XdpDevice& device : devices_) {
            device.refresh_stats();
            counters_.device_drops += device.drops();
        }
        sockets_.refresh_stats();
    }

  private:
    XdpSource(std::span<const LineSettings> lines, std::vector<DeviceLines> devices,
              const XdpSettings& settings, bool spin)
        : spin_(spin),
          limit_(lines.size() * UdpReceiver::batch),
          device_of_(lines.size()),
          devices_(open_devices(std::move(devices), settings, spin)),
          sockets_(lines, false) {
        for (std::size_t i = 0; i < devices_.size(); ++i) {
            for (const LineTable::Entry& entry : devices_[i].table().entries()) device_of_[entry.line] = i;
            for (const xdp::Queue& queue : devices_[i].queues()) fds_.push_back(queue.fd());
        }
        fds_.insert(fds_.end(), sockets_.fds().begin(), sockets_.fds().end());
    }

    static std::vector<XdpDevice> open_devices(std::vector<DeviceLines> devices, const XdpSettings& settings,
                                               bool spin) {
        std::vector<XdpDevice> out;
        out.reserve(devices.size());
        for (DeviceLines& device : devices) out.emplace_back(std::move(device), settings, spin);
        return out;
    }

    std::size_t poll_kernel(std::span<Datagram> out) {
        const std::size_t count = sockets_.poll(out);
        counters_.by_kernel += count;
        return count;
    }

    bool spin_;
    unsigned turn_ = 0;
    std::size_t limit_;                   // datagrams a call
    std::vector<std::size_t> device_of_;  // by line
    std::vector<XdpDevice> devices_;
    SocketSource sockets_;  // the memberships, and what the filter leaves to the kernel
    std::vector<int> fds_;
    ReceiveCounters counters_;
};
static_assert(Source<XdpSource>);

}  // namespace fh::receive
