// Multicast lines past the kernel's IP stack where nothing but CAP_NET_RAW is allowed: an AF_PACKET ring for
// each device (TPACKET_V2: version 3 holds frames back until a block is full or a timer fires).
#pragma once

#include <linux/if_arp.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/net_tstamp.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "receive/device_lines.hpp"
#include "receive/first_turn.hpp"
#include "receive/membership.hpp"
#include "receive/multicast.hpp"
#include "receive/packet_filter.hpp"
#include "receive/source.hpp"

namespace fh::receive {

struct PacketSettings {
    std::uint64_t ring_mib = 16;  // of each device
};

// How the kernel lays a ring out: frames of one size in blocks, none across two of them.
struct RingGeometry {
    static constexpr std::size_t block_bytes = 1 << 20;

    // Room for the largest frame of the device, VLAN tag and all.
    RingGeometry(std::uint64_t ring_mib, std::size_t mtu)
        : frame_bytes((TPACKET_ALIGN(TPACKET2_HDRLEN + 16) + 4 + mtu + 63) / 64 * 64),
          frames_a_block(block_bytes / frame_bytes),
          blocks((ring_mib << 20) / block_bytes) {}

    std::size_t bytes() const { return blocks * block_bytes; }
    std::size_t frames() const { return blocks * frames_a_block; }

    std::size_t frame_bytes;
    std::size_t frames_a_block;
    std::size_t blocks;
};

// A place in the ring; both the kernel and we go round it frame by frame.
class RingPlace {
  public:
    std::size_t offset(const RingGeometry& ring) const {
        return block_ * RingGeometry::block_bytes + frame_ * ring.frame_bytes;
    }
    void advance(const RingGeometry& ring) {
        if (++frame_ < ring.frames_a_block) return;
        frame_ = 0;
        if (++block_ == ring.blocks) block_ = 0;
    }

  private:
    std::size_t block_ = 0;
    std::size_t frame_ = 0;
};

class PacketRing {
  public:
    PacketRing(DeviceLines lines, const PacketSettings& settings)
        : device_(std::move(lines)),
          limit_(device_.table.entries().size() * UdpReceiver::batch),
          socket_(open_socket()),
          geometry_(settings.ring_mib, mtu()) {
        tune();
        const tpacket_req request{
            static_cast<unsigned>(RingGeometry::block_bytes), static_cast<unsigned>(geometry_.blocks),
            static_cast<unsigned>(geometry_.frame_bytes), static_cast<unsigned>(geometry_.frames())};
        need(set_option(fd(), SOL_PACKET, PACKET_RX_RING, request),
             "a ring of " + std::to_string(settings.ring_mib) + " MiB (receive.packet.ring_mib)");
        // All pages are there at once and stay: they are the kernel's.
        void* memory = mmap(nullptr, geometry_.bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, fd(), 0);
        need(memory != MAP_FAILED, "mapping the ring");
        memory_ = {static_cast<std::uint8_t*>(memory), Unmap{geometry_.bytes()}};
        // What is held is still marked as ours: never twice round.
        limit_ = std::min(limit_, geometry_.frames());
        bind_to_device();  // last: from here on frames come in
    }

    int fd() const { return socket_.get(); }
    const LineTable& table() const { return device_.table; }
    std::uint64_t drops() const { return drops_; }
    std::size_t ring_bytes() const { return geometry_.bytes(); }
    TimestampKind timestamp_kind() const { return timestamp_kind_; }

    // What the last call handed out goes back to the kernel first. No system call: each frame says whose it
    // is.
    std::size_t receive(std::span<Datagram> out, ReceiveCounters& counters) {
        for (; held_ != 0; --held_, oldest_.advance(geometry_))
            __atomic_store_n(&header(oldest_)->tp_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
        std::size_t count = 0;
        for (const std::size_t most = std::min(out.size(), limit_); held_ < most; ++held_) {
            const tpacket2_hdr* frame = header(next_);
            const std::uint32_t status = __atomic_load_n(&frame->tp_status, __ATOMIC_ACQUIRE);
            if ((status & TP_STATUS_USER) == 0) break;
            if (take(*frame, status, out[count], counters)) ++count;
            next_.advance(geometry_);
        }
        return count;
    }

    void refresh_stats() {
        tpacket_stats stats{};
        socklen_t length = sizeof(stats);
        if (getsockopt(fd(), SOL_PACKET, PACKET_STATISTICS, &stats, &length) == 0)
            drops_ += stats.tp_drops;  // reading sets it to 0
        int error = 0;
        length = sizeof(error);
        // A link that went down leaves an error, for which a waiting loop would wake again and again.
        getsockopt(fd(), SOL_SOCKET, SO_ERROR, &error, &length);
    }

  private:
    struct Unmap {
        std::size_t bytes;
        void operator()(std::uint8_t* memory) const { munmap(memory, bytes); }
    };

    void need(bool ok, const std::string& what) const {
        require(ok, "receive.mode \"packet\" on " + device_.device + ": " + what);
    }

    Descriptor open_socket() const {
        // Protocol 0: nothing comes in before the filter is there.
        Descriptor made(socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
        need(made.get() >= 0, errno == EPERM ? "AF_PACKET socket (needs CAP_NET_RAW)" : "AF_PACKET socket");
        return made;
    }

    std::size_t mtu() const {
        const auto found = mtu_of(device_.device);
        need(found.has_value(), "MTU");
        return *found;
    }

    void tune() const {
        need(set_option(fd(), SOL_PACKET, PACKET_VERSION, static_cast<int>(TPACKET_V2)), "TPACKET_V2");
        need(set_option(fd(), SOL_PACKET, PACKET_IGNORE_OUTGOING, 1), "PACKET_IGNORE_OUTGOING");
        // Without these the time is that of the copy into the ring.
        set_option(fd(), SOL_SOCKET, SO_TIMESTAMPNS, 1);
        set_option(fd(), SOL_PACKET, PACKET_TIMESTAMP, static_cast<int>(SOF_TIMESTAMPING_RAW_HARDWARE));
        std::vector<sock_filter> code = packet_filter(device_.table);
        const sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
        need(set_option(fd(), SOL_SOCKET, SO_ATTACH_FILTER, program), "SO_ATTACH_FILTER");
    }

    // All protocols, not IPv4 alone: there VLAN tags would be gone without a trace.
    void bind_to_device() const {
        sockaddr_ll address{};
        address.sll_family = AF_PACKET;
        address.sll_protocol = htons(ETH_P_ALL);
        address.sll_ifindex = static_cast<int>(device_.index);
        need(::bind(fd(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0, "bind");
        socklen_t length = sizeof(address);
        need(getsockname(fd(), reinterpret_cast<sockaddr*>(&address), &length) == 0, "getsockname");
        if (address.sll_hatype != ARPHRD_ETHER && address.sll_hatype != ARPHRD_LOOPBACK) {
            errno = ENOTSUP;
            need(false, "its frames are not Ethernet's");
        }
    }

    tpacket2_hdr* header(const RingPlace& place) const {
        return reinterpret_cast<tpacket2_hdr*>(memory_.get() + place.offset(geometry_));
    }

    bool take(const tpacket2_hdr& frame, std::uint32_t status, Datagram& out, ReceiveCounters& counters) {
        if ((status & TP_STATUS_VLAN_VALID) != 0) [[unlikely]] {
            ++counters.tagged;
            return false;
        }
        if (frame.tp_snaplen < frame.tp_len) [[unlikely]] {  // the MTU was raised meanwhile
            ++counters.bad_frames;
            return false;
        }
        const auto* bytes = reinterpret_cast<const std::uint8_t*>(&frame) + frame.tp_mac;
        // Not CSUM_VALID: kernels before 6.1 say so of sums that nobody has compared (CHECKSUM_COMPLETE).
        const bool intact = (status & TP_STATUS_CSUMNOTREADY) != 0;
        if (!device_.table.take(bytes, frame.tp_snaplen, intact, out, counters)) return false;
        constexpr std::uint32_t by_hardware = TP_STATUS_TS_RAW_HARDWARE | TP_STATUS_TS_SYS_HARDWARE;
        out.timestamp_kind = (status & by_hardware) != 0 ? TimestampKind::hardware : TimestampKind::kernel;
        out.ts_recv_ns = std::int64_t{frame.tp_sec} * 1'000'000'000 + frame.tp_nsec;
        timestamp_kind_ = out.timestamp_kind;
        return true;
    }

    DeviceLines device_;
    std::size_t limit_;  // frames a call
    Descriptor socket_;
    RingGeometry geometry_;
    std::unique_ptr<std::uint8_t, Unmap> memory_;
    RingPlace next_;        // the kernel fills it next
    RingPlace oldest_;      // of those held
    std::size_t held_ = 0;  // frames that are ours: what the last call handed out, or refused
    std::uint64_t drops_ = 0;
    TimestampKind timestamp_kind_ = TimestampKind::none;
};

class PacketSource {
  public:
    PacketSource(std::span<const LineSettings> lines, const PacketSettings& settings)
        : PacketSource(lines, lines_by_device(lines), settings) {}

    std::size_t poll(std::span<Datagram> out) {
        if (!first_turn_.over()) [[unlikely]]
            return first_turn_.poll(out, [this](std::size_t ring, std::span<Datagram> rest) {
                return rings_[ring].receive(rest, counters_);
            });
        std::size_t count = 0;
        for (PacketRing& ring : rings_) count += ring.receive(out.subspan(count), counters_);
        return count;
    }

    std::span<const int> fds() const { return fds_; }
    std::size_t line_count() const { return ring_of_.size(); }
    SourceStats stats(std::size_t line) const {
        const PacketRing& ring = rings_[ring_of_[line]];
        SourceStats out;
        if (ring.table().entries().size() == 1) out.kernel_drops = ring.drops();
        out.buffer_bytes = ring.ring_bytes();
        out.timestamp_kind = ring.timestamp_kind();
        return out;
    }
    const ReceiveCounters& counters() const { return counters_; }
    void refresh_stats() {
        counters_.device_drops = 0;
        for (PacketRing& ring : rings_) {
            ring.refresh_stats();
            counters_.device_drops += ring.drops();
        }
    }

  private:
    PacketSource(std::span<const LineSettings> lines, std::vector<DeviceLines> devices,
                 const PacketSettings& settings)
        : first_turn_(devices.size()), ring_of_(lines.size()) {
        rings_.reserve(devices.size());
        for (DeviceLines& device : devices) {
            for (const LineTable::Entry& entry : device.table.entries()) ring_of_[entry.line] = rings_.size();
            rings_.emplace_back(std::move(device), settings);
            fds_.push_back(rings_.back().fd());
        }
        memberships_ = Memberships(lines);
    }

    FirstTurn first_turn_;
    std::vector<std::size_t> ring_of_;  // by line
    std::vector<PacketRing> rings_;
    std::vector<int> fds_;
    Memberships memberships_;
    ReceiveCounters counters_;
};
static_assert(Source<PacketSource>);

}  // namespace fh::receive
