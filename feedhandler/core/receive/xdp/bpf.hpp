// The bpf() system calls that AF_XDP needs: no library between us and the kernel.
#pragma once

#include <linux/bpf.h>
#include <linux/if_link.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "receive/udp_receiver.hpp"

namespace fh::receive::xdp {

// All of these leave their reason in errno.
inline long bpf(bpf_cmd command, bpf_attr& request) {
    return syscall(SYS_bpf, command, &request, sizeof(request));
}

inline std::uint64_t address_of(const void* memory) { return reinterpret_cast<std::uintptr_t>(memory); }

// A request starts all zero, padding too: the kernel refuses anything else.
inline bpf_attr request() {
    bpf_attr out;
    std::memset(&out, 0, sizeof(out));
    return out;
}

inline Descriptor create_map(bpf_map_type type, std::uint32_t key_bytes, std::uint32_t value_bytes,
                             std::uint32_t entries) {
    bpf_attr create = request();
    create.map_type = type;
    create.key_size = key_bytes;
    create.value_size = value_bytes;
    create.max_entries = entries;
    return Descriptor(static_cast<int>(bpf(BPF_MAP_CREATE, create)));
}

inline bool set_in_map(int map, const void* key, const void* value) {
    bpf_attr update = request();
    update.map_fd = static_cast<std::uint32_t>(map);
    update.key = address_of(key);
    update.value = address_of(value);
    return bpf(BPF_MAP_UPDATE_ELEM, update) == 0;
}

// `device`: the only one that it may be attached to, and whose driver it may ask; 0: any, and it asks none.
inline Descriptor load_program(std::span<const bpf_insn> code, const char* name, unsigned device = 0) {
    constexpr std::uint32_t device_bound_only = 1u << 6;  // BPF_F_XDP_DEV_BOUND_ONLY: Linux 6.3
    bpf_attr load = request();
    load.prog_type = BPF_PROG_TYPE_XDP;
    load.expected_attach_type = BPF_XDP;
    load.insns = address_of(code.data());
    load.insn_cnt = static_cast<std::uint32_t>(code.size());
    // Functions of the kernel may be called by programs under the GPL only; nothing else here asks for it.
    load.license = address_of("Dual MIT/GPL");
    load.prog_flags = device != 0 ? device_bound_only : 0;
    load.prog_ifindex = device;
    std::strncpy(load.prog_name, name, sizeof(load.prog_name) - 1);
    return Descriptor(static_cast<int>(bpf(BPF_PROG_LOAD, load)));
}

// What an XDP program says about one frame, without any device. Negative: errno says why not.
inline int test_run(int program, std::span<const std::uint8_t> frame) {
    bpf_attr run = request();
    run.test.prog_fd = static_cast<std::uint32_t>(program);
    run.test.data_in = address_of(frame.data());
    run.test.data_size_in = static_cast<std::uint32_t>(frame.size());
    run.test.repeat = 1;
    return bpf(BPF_PROG_TEST_RUN, run) == 0 ? static_cast<int>(run.test.retval) : -1;
}

// Attached for as long as the descriptor is open: when this process is killed, the kernel takes the program
// off.
inline Descriptor create_link(int program, unsigned device, std::uint32_t mode) {
    bpf_attr link = request();
    link.link_create.prog_fd = static_cast<std::uint32_t>(program);
    link.link_create.target_ifindex = device;
    link.link_create.attach_type = BPF_XDP;
    link.link_create.flags = mode;
    return Descriptor(static_cast<int>(bpf(BPF_LINK_CREATE, link)));
}

// Name of a loaded program; "" when it has none, or without CAP_SYS_ADMIN.
inline std::string program_name(std::uint32_t id) {
    bpf_attr open = request();
    open.prog_id = id;
    const Descriptor program(static_cast<int>(bpf(BPF_PROG_GET_FD_BY_ID, open)));
    if (program.get() < 0) return {};
    bpf_prog_info found{};
    bpf_attr ask = request();
    ask.info.bpf_fd = static_cast<std::uint32_t>(program.get());
    ask.info.info = address_of(&found);
    ask.info.info_len = sizeof(found);
    return bpf(BPF_OBJ_GET_INFO_BY_FD, ask) == 0 ? found.name : "";
}

}  // namespace fh::receive::xdp
