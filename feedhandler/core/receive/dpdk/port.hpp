// One device of DPDK's: found, set up, polled, counted, closed.
#pragma once

#include <linux/filter.h>
#include <linux/if_packet.h>
#include <linux/if_xdp.h>
#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <rte_mbuf_dyn.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "receive/dpdk/plugin_abi.hpp"

namespace fh::dpdk_plugin {

inline constexpr std::uint16_t most_held = 256;  // frames of one port between two polls

[[noreturn]] inline void fail(const std::string& what, int error) {
    throw std::runtime_error(what + ": " + rte_strerror(error < 0 ? -error : error));
}

inline std::string name_of(const std::string& port) { return port.substr(0, port.find(',')); }

// Sockets of this process of one domain. The driver net_af_packet says nothing of what its rings have
// dropped, net_af_xdp nothing of what found a ring full; their sockets do.
inline std::vector<int> sockets_of(int domain) {
    std::vector<int> out;
    for (int fd = 0; fd < getdtablesize() && fd < 4096; ++fd) {
        int found = 0;
        socklen_t length = sizeof(found);
        if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &found, &length) == 0 && found == domain) out.push_back(fd);
    }
    return out;
}

inline std::vector<int> opened_since(const std::vector<int>& before, int domain) {
    std::vector<int> out;
    std::ranges::set_difference(sockets_of(domain), before, std::back_inserter(out));
    return out;
}

// What this host sends has not been received, and what is no line's takes no room in the ring.
inline void keep_others_out(int fd, const void* filter) {
    constexpr int yes = 1;
    setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &yes, sizeof(yes));
    if (filter != nullptr) setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, filter, sizeof(sock_fprog));
}

inline std::int64_t host_ns(clockid_t clock) {
    timespec time{};
    clock_gettime(clock, &time);
    return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

// rte_pktmbuf_pool_create_by_ops, and without a device that reads memory by its physical addresses buffers
// close to each other: else none crosses the border of a page, and net_af_xdp, which multiplies their number
// by their size, gives the kernel too little memory and waits forever for the buffers beyond.
inline rte_mempool* buffers(const std::string& name, unsigned count, std::uint16_t room, int node,
                            bool is_virtual_device) {
    rte_mempool* const pool = rte_mempool_create_empty(
        name.c_str(), count, static_cast<unsigned>(sizeof(rte_mbuf)) + room, 0,
        sizeof(rte_pktmbuf_pool_private), node, is_virtual_device ? RTE_MEMPOOL_F_NO_IOVA_CONTIG : 0);
    if (pool == nullptr) return nullptr;
    rte_pktmbuf_pool_private layout{};
    layout.mbuf_data_room_size = room;
    if (rte_mempool_set_ops_byname(pool, "ring_sp_sc", nullptr) == 0) {
        rte_pktmbuf_pool_init(pool, &layout);
        if (rte_mempool_populate_default(pool) == static_cast<int>(count)) {
            rte_mempool_obj_iter(pool, rte_pktmbuf_init, nullptr);
            return pool;
        }
    }
    rte_mempool_free(pool);
    return nullptr;
}

class Port {
  public:
    Port(const fh_dpdk_port& settings, std::uint16_t descriptors) : name_(name_of(settings.device)) {
        const std::vector<int> packet_before = sockets_of(AF_PACKET), xdp_before = sockets_of(AF_XDP);
        if (rte_eth_dev_get_port_by_name(name_.c_str(), &id_) != 0) {
            // Whatever it returns: the drivers do not agree on what it means.
            if (rte_dev_probe(settings.device) != 0)
                throw std::runtime_error("cannot be opened as receive.dpdk.ports says");
            if (rte_eth_dev_get_port_by_name(name_.c_str(), &id_) != 0)
                throw std::runtime_error("is no device that receives");
        }
        there_ = true;
        if (name_.starts_with("net_af_packet")) {
            packet_sockets_ = opened_since(packet_before, AF_PACKET);
            for (const int fd : packet_sockets_) keep_others_out(fd, settings.packet_filter);
        }
        try {
            set_up(name_.starts_with("net_"), descriptors);
        } catch (...) {
            close();
            throw;
        }
        xdp_sockets_ = opened_since(xdp_before, AF_XDP);
    }
    Port(const Port&) = delete;
    Port& operator=(const Port&) = delete;
    ~Port() { close(); }

    std::size_t poll(fh_dpdk_frame* out, std::size_t most) {
        if (held_ != 0) rte_pktmbuf_free_bulk(mbufs_.data(), static_cast<unsigned>(held_));
        held_ = 0;
        most = std::min<std::size_t>(most, most_held);
        if (++first_ >= queues_) first_ = 0;  // a busy queue does not keep others waiting
        for (std::uint16_t i = 0, queue = first_; i < queues_ && held_ < most; ++i) {
            const auto room = static_cast<std::uint16_t>(most - held_);
            held_ += rte_eth_rx_burst(id_, queue, mbufs_.data() + held_, room);
            if (++queue == queues_) queue = 0;
        }
        for (std::size_t i = 0; i < held_; ++i) out[i] = frame_of(mbufs_[i]);
        return held_;
    }

    void stats(fh_dpdk_stats& out) {
        rte_eth_stats seen{};
        if (rte_eth_stats_get(id_, &seen) == 0) out.drops = seen.imissed + seen.rx_nombuf;
        for (const int fd : packet_sockets_) {
            tpacket_stats ring{};
            socklen_t length = sizeof(ring);
            if (getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &ring, &length) == 0)
                ring_drops_ += ring.tp_drops;  // reading sets it to 0
        }
        out.drops += ring_drops_;
        for (const int fd : xdp_sockets_) {
            xdp_statistics ring{};
            socklen_t length = sizeof(ring);
            if (getsockopt(fd, SOL_XDP, XDP_STATISTICS, &ring, &length) == 0) out.drops += ring.rx_ring_full;
        }
        out.buffer_bytes = buffer_bytes_;
        out.queues = queues_;
        out.has_ticks = compare_clocks(out) ? 1 : 0;
    }

  private:
    void set_up(bool is_virtual_device, std::uint16_t descriptors) {
        rte_eth_dev_info info{};
        if (const int error = rte_eth_dev_info_get(id_, &info); error != 0) fail("what is it", error);
        // A card without rules of its own brings all to its first queue; these have as many as they were
        // given.
        const bool has_given_queues = name_.starts_with("net_af_");
        queues_ = has_given_queues ? std::max<std::uint16_t>(info.max_rx_queues, 1) : 1;
        const std::uint16_t transmit = is_virtual_device && info.max_tx_queues != 0 ? queues_ : 0;
        rte_eth_conf configuration{};
        configuration.rxmode.offloads = info.rx_offload_capa & wanted_offloads;
        if (const int error = rte_eth_dev_configure(id_, queues_, transmit, &configuration); error != 0)
            fail("its configuration", error);
        std::uint16_t none = 0;
        rte_eth_dev_adjust_nb_rx_tx_desc(id_, &descriptors, &none);
        make_pool(is_virtual_device, descriptors);
        const int node = rte_eth_dev_socket_id(id_);
        for (std::uint16_t queue = 0; queue < queues_; ++queue)
            if (const int error = rte_eth_rx_queue_setup(id_, queue, descriptors, static_cast<unsigned>(node),
                                                         nullptr, pool_);
                error != 0)
                fail("a queue of " + std::to_string(descriptors) + " descriptors", error);
        for (std::uint16_t queue = 0; queue < transmit; ++queue)  // some virtual devices do not start without
            if (const int error =
                    rte_eth_tx_queue_setup(id_, queue, descriptors, static_cast<unsigned>(node), nullptr);
                error != 0)
                fail("a queue to send", error);
        if (const int error = rte_eth_dev_start(id_); error != 0) fail("its start", error);
        started_ = true;
        // Virtual devices have a kernel's device below, whose filter knows the groups by the memberships.
        if (rte_eth_allmulticast_enable(id_) != 0 && !is_virtual_device) rte_eth_promiscuous_enable(id_);
        if ((configuration.rxmode.offloads & RTE_ETH_RX_OFFLOAD_TIMESTAMP) != 0) find_timestamp();
        rte_eth_stats_reset(id_);
    }

    static constexpr std::uint64_t wanted_offloads =
        RTE_ETH_RX_OFFLOAD_IPV4_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM | RTE_ETH_RX_OFFLOAD_TIMESTAMP;

    // One thread takes and gives: no need for the ring of many, nor for a cache of each thread. A buffer has
    // room for the largest frame of the device, so that none is in pieces.
    void make_pool(bool is_virtual_device, std::uint16_t descriptors) {
        std::uint16_t mtu = 0;
        rte_eth_dev_get_mtu(id_, &mtu);
        const auto room = static_cast<std::uint16_t>(RTE_PKTMBUF_HEADROOM +
                                                     std::max(2048, std::min<int>(mtu + 64, 16 << 10)));
        // In the ring of each queue (net_af_xdp: 2048 at least), in the hands of the reader, and those that a
        // driver takes beforehand.
        const unsigned count = queues_ * (std::max<unsigned>(descriptors, 2048) + most_held) + most_held;
        static unsigned serial = 0;
        const std::string name = "fh" + std::to_string(serial++);
        for (const int node : {rte_eth_dev_socket_id(id_), SOCKET_ID_ANY})
            if (pool_ == nullptr) pool_ = buffers(name, count, room, node, is_virtual_device);
        if (pool_ == nullptr)
            throw std::runtime_error("no memory for " + std::to_string(count) + " frames of " +
                                     std::to_string(room) + " bytes: receive.dpdk.memory_mib is too small");
        // The driver gives the kernel the first piece only.
        if (name_.starts_with("net_af_xdp") && pool_->nb_mem_chunks != 1)
            throw std::runtime_error("its frames lie in " + std::to_string(pool_->nb_mem_chunks) +
                                     " pieces of memory: receive.dpdk.memory_mib is too small");
        buffer_bytes_ = std::uint64_t{count} * room;
    }

    void find_timestamp() {
        const int offset = rte_mbuf_dynfield_lookup(RTE_MBUF_DYNFIELD_TIMESTAMP_NAME, nullptr);
        const int flag = rte_mbuf_dynflag_lookup(RTE_MBUF_DYNFLAG_RX_TIMESTAMP_NAME, nullptr);
        if (offset < 0 || flag < 0) return;
        timestamp_offset_ = offset;
        timestamp_flag_ = std::uint64_t{1} << flag;
        rte_eth_timesync_enable(id_);  // where the clock is read by it
    }

    // The clock that the timestamps are of: free running, or that of PTP, in nanoseconds.
    bool read_clock(std::uint64_t& ticks) const {
        if (timestamp_flag_ == 0) return false;
        if (rte_eth_read_clock(id_, &ticks) == 0) return true;
        timespec time{};
        if (rte_eth_timesync_read_time(id_, &time) != 0) return false;
        ticks = static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000u +
                static_cast<std::uint64_t>(time.tv_nsec);
        return true;
    }

    // The device's clock beside the host's: of some tries the one that took least, for the thread may have
    // been put aside in between. Nothing when none is as good as times have to be (100 us, the limit of RTS
    // 25).
    bool compare_clocks(fh_dpdk_stats& out) const {
        std::int64_t shortest_ns = 100'000;
        bool found = false;
        for (int i = 0; i < 3; ++i) {
            std::uint64_t ticks = 0;
            const std::int64_t before_ns = host_ns(CLOCK_MONOTONIC);
            if (!read_clock(ticks)) return false;
            const std::int64_t realtime_ns = host_ns(CLOCK_REALTIME);
            const std::int64_t took_ns = host_ns(CLOCK_MONOTONIC) - before_ns;
            if (took_ns > shortest_ns) continue;
            shortest_ns = took_ns;
            out.ticks = ticks;
            out.monotonic_ns = before_ns + took_ns / 2;
            out.realtime_ns = realtime_ns - took_ns / 2;
            found = true;
        }
        return found;
    }

    fh_dpdk_frame frame_of(rte_mbuf* mbuf) const {
        const std::uint64_t flags = mbuf->ol_flags;
        fh_dpdk_frame out{rte_pktmbuf_mtod(mbuf, const std::uint8_t*), mbuf->data_len, 0, 0};
        const std::uint64_t ip = flags & RTE_MBUF_F_RX_IP_CKSUM_MASK,
                            udp = flags & RTE_MBUF_F_RX_L4_CKSUM_MASK;
        if (ip == RTE_MBUF_F_RX_IP_CKSUM_GOOD && udp == RTE_MBUF_F_RX_L4_CKSUM_GOOD)
            out.flags |= fh_dpdk_intact;
        if (ip == RTE_MBUF_F_RX_IP_CKSUM_BAD || udp == RTE_MBUF_F_RX_L4_CKSUM_BAD)
            out.flags |= fh_dpdk_damaged;
        if ((flags & RTE_MBUF_F_RX_VLAN_STRIPPED) != 0) out.flags |= fh_dpdk_tagged;
        if (mbuf->data_len != mbuf->pkt_len) out.flags |= fh_dpdk_truncated;
        if ((flags & timestamp_flag_) != 0) {
            out.ticks = *RTE_MBUF_DYNFIELD(mbuf, timestamp_offset_, rte_mbuf_timestamp_t*);
            out.flags |= fh_dpdk_has_ticks;
        }
        return out;
    }

    // Without it net_af_xdp would leave its program on the device.
    void close() {
        if (!std::exchange(there_, false)) return;
        if (held_ != 0) rte_pktmbuf_free_bulk(mbufs_.data(), static_cast<unsigned>(std::exchange(held_, 0)));
        if (started_) rte_eth_dev_stop(id_);
        rte_eth_dev_info info{};
        rte_device* const device = rte_eth_dev_info_get(id_, &info) == 0 ? info.device : nullptr;
        rte_eth_dev_close(id_);
        if (device != nullptr) rte_dev_remove(device);
        rte_mempool_free(pool_);
    }

    std::string name_;
    std::uint16_t id_ = 0;
    std::uint16_t queues_ = 0;
    std::uint16_t first_ = 0;  // queue that the last poll began with
    bool there_ = false;
    bool started_ = false;
    rte_mempool* pool_ = nullptr;
    std::uint64_t buffer_bytes_ = 0;
    int timestamp_offset_ = -1;
    std::uint64_t timestamp_flag_ = 0;
    std::vector<int> packet_sockets_, xdp_sockets_;
    std::uint64_t ring_drops_ = 0;
    std::array<rte_mbuf*, most_held> mbufs_{};
    std::size_t held_ = 0;
};

}  // namespace fh::dpdk_plugin
