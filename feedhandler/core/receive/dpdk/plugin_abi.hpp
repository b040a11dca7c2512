// What the core and its DPDK plugin say to each other: C types only, for they are built apart. A plugin of
// another version is refused.
#pragma once

#include <cstddef>
#include <cstdint>

extern "C" {

enum : std::uint32_t { fh_dpdk_version = 1 };

enum : std::uint32_t {
    fh_dpdk_intact = 1,      // the device has found the checksums right
    fh_dpdk_damaged = 2,     // the device has found one wrong
    fh_dpdk_tagged = 4,      // there was a VLAN tag, which the device has taken off
    fh_dpdk_truncated = 8,   // not all of the frame is here
    fh_dpdk_has_ticks = 16,  // `ticks` is the device's clock when the frame came
};

struct fh_dpdk_frame {
    const std::uint8_t* data;
    std::uint32_t length;
    std::uint32_t flags;
    std::uint64_t ticks;
};

struct fh_dpdk_port {
    const char* device;  // a PCI address, or a virtual device ("net_...") with its arguments
    // Classic BPF (struct sock_fprog) of what is wanted, for drivers that receive by AF_PACKET sockets.
    const void* packet_filter;
};

struct fh_dpdk_settings {
    std::uint32_t size;  // of this struct
    std::uint32_t port_count;
    const fh_dpdk_port* ports;
    std::uint32_t argument_count;
    std::uint32_t rx_descriptors;
    const char* const* arguments;  // of the EAL; only the first open() of a process needs them
};

struct fh_dpdk_stats {
    std::uint64_t drops;         // frames dropped by the device or for want of memory, since open()
    std::uint64_t buffer_bytes;  // room for frames
    std::uint64_t ticks;         // the device's clock
    std::int64_t monotonic_ns;   // the host's at that moment
    std::int64_t realtime_ns;
    std::uint32_t has_ticks;  // has it one that can be read, and was it read at once?
    std::uint32_t queues;
};

struct fh_dpdk_api {
    std::uint32_t size;  // of this struct
    std::uint32_t version;
    // Null when it cannot be had: then one line is in `error`. Prints nothing.
    void* (*open)(const fh_dpdk_settings* settings, char* error, std::size_t error_size);
    // Puts up to `most` frames of a port into `out`; those of the call before are given back.
    std::size_t (*poll)(void* handle, std::uint32_t port, fh_dpdk_frame* out, std::size_t most);
    void (*stats)(void* handle, std::uint32_t port, fh_dpdk_stats* out);
    // What DPDK and its drivers have said since the last call, as lines; returns the length. Any thread.
    std::size_t (*take_log)(void* handle, char* out, std::size_t size);
    void (*close)(void* handle);
};

// The one symbol that the plugin has: "fh_dpdk_plugin".
using fh_dpdk_plugin_function = const fh_dpdk_api*();

}  // extern "C"
