// Why a device cannot be had by AF_XDP, in one line that names what is missing.
#pragma once

#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <string>
#include <system_error>

namespace fh::receive::xdp {

// The capabilities that are needed and this thread has not: "CAP_BPF, CAP_NET_ADMIN".
inline std::string missing_capabilities(bool with_bpf = true) {
    constexpr struct {
        unsigned number;
        const char* name;
    } needed[] = {{CAP_NET_RAW, "CAP_NET_RAW"}, {CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {CAP_BPF, "CAP_BPF"}};
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct held[2]{};
    std::string out;
    if (syscall(SYS_capget, &header, held) != 0) return out;
    for (const auto& one : needed)
        if ((with_bpf || one.number != CAP_BPF) &&
            (held[one.number / 32].effective >> (one.number % 32) & 1) == 0)
            out += (out.empty() ? "" : ", ") + std::string(one.name);
    return out;
}

// `what`: mode and device. Throws what errno says, and which capability is missing if it is that.
inline void need(bool ok, const std::string& what, const std::string& step) {
    if (ok) return;
    const int reason = errno;
    std::string text = what + ": " + step;
    if (reason == EPERM || reason == EACCES) {
        const std::string missing = missing_capabilities();
        text += missing.empty() ? " (forbidden here in spite of all capabilities: a container?)"
                                : " (needs " + missing + ")";
    }
    throw std::system_error(reason, std::generic_category(), text);
}

}  // namespace fh::receive::xdp
