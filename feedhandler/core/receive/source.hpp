// What the receive loop asks of whatever brings datagrams: kernel sockets, AF_XDP, DPDK, Onload, memory, a
// file.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include "message.hpp"
#include "publish/counters.hpp"

namespace fh::receive {

// Datagrams of re-request server i carry the line index first_server_line + i: replies are one more line.
inline constexpr std::uint16_t first_server_line = max_lines;

// What was granted and seen, not what was asked for.
struct SourceStats {
    std::uint64_t kernel_drops = 0;                      // datagrams dropped for want of buffer
    std::uint64_t buffer_bytes = 0;                      // receive buffer granted; 0 = unknown
    std::uint32_t napi_id = 0;                           // 0 = busy polling does nothing here
    TimestampKind timestamp_kind = TimestampKind::none;  // of the newest datagram
    bool buffer_forced = false;                          // beyond net.core.rmem_max, by CAP_NET_ADMIN
    bool busy_poll = false;                              // SO_BUSY_POLL granted
    bool prefer_busy_poll = false;                       // SO_PREFER_BUSY_POLL granted
    const char* attached = "";                           // XDP program: "native", "generic"; "" = none
    std::uint32_t queues = 0;                            // of the device that are read past the kernel
    const char* frame_times = "";                        // XDP: who is asked for them, "driver" or "kernel"
    bool zero_copy = false;                              // no copy of a datagram is made
    bool huge_pages = false;                             // that memory lies in huge pages
    bool accelerated = false;                            // its socket is Onload's
};

// poll() never blocks. It returns how many datagrams it put into `out`; their memory is valid until the next
// poll. A datagram whose timestamp_kind is none has no ts_recv_ns: the loop stamps it. fds() may be waited on
// when nothing came; a source without any can only be spun on. counters(): of what came past the kernel.
// refresh_stats() may make system calls, stats() may not.
template <class S>
concept Source = requires(S source, std::span<Datagram> out, std::size_t line) {
    { source.poll(out) } -> std::same_as<std::size_t>;
    { source.fds() } -> std::convertible_to<std::span<const int>>;
    { source.line_count() } -> std::convertible_to<std::size_t>;
    { source.stats(line) } -> std::same_as<SourceStats>;
    { source.counters() } -> std::same_as<const ReceiveCounters&>;
    source.refresh_stats();
};

}  // namespace fh::receive
