// The filter on its device: by a link, natively or not; never in the place of another program.
#pragma once

#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include "receive/udp_receiver.hpp"
#include "receive/xdp/bpf.hpp"
#include "receive/xdp/refuse.hpp"

namespace fh::receive::xdp {

namespace detail {

// The value of an attribute inside `within`, or nothing.
inline const rtattr* find_attribute(const rtattr* within, int bytes, unsigned short type) {
    for (; RTA_OK(within, bytes); within = RTA_NEXT(within, bytes))
        if ((within->rta_type & NLA_TYPE_MASK) == type) return within;
    return nullptr;
}

}  // namespace detail

// Id of the XDP program on a device; 0 = none.
inline std::uint32_t attached_program(unsigned device) {
    const Descriptor netlink(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    struct {
        nlmsghdr header;
        ifinfomsg link;
    } ask{};
    ask.header.nlmsg_len = sizeof(ask);
    ask.header.nlmsg_type = RTM_GETLINK;
    ask.header.nlmsg_flags = NLM_F_REQUEST;
    ask.link.ifi_index = static_cast<int>(device);
    alignas(nlmsghdr) std::array<std::uint8_t, 32768> answer{};
    if (send(netlink.get(), &ask, sizeof(ask), 0) < 0) return 0;
    const ssize_t got = recv(netlink.get(), answer.data(), answer.size(), 0);
    const auto* header = reinterpret_cast<const nlmsghdr*>(answer.data());
    if (got < 0 || !NLMSG_OK(header, static_cast<unsigned>(got)) || header->nlmsg_type != RTM_NEWLINK)
        return 0;
    const auto* link = static_cast<const ifinfomsg*>(NLMSG_DATA(header));
    const rtattr* xdp =
        detail::find_attribute(IFLA_RTA(link), static_cast<int>(IFLA_PAYLOAD(header)), IFLA_XDP);
    if (xdp == nullptr) return 0;
    const auto* inside = static_cast<const rtattr*>(RTA_DATA(xdp));
    const rtattr* id = detail::find_attribute(inside, static_cast<int>(RTA_PAYLOAD(xdp)), IFLA_XDP_PROG_ID);
    std::uint32_t out = 0;
    if (id != nullptr) std::memcpy(&out, RTA_DATA(id), sizeof(out));
    return out;
}

namespace detail {

// Calls `look` with each path in a folder until it returns true. What is gone, or others', is passed over.
template <class Look>
bool any_in(const std::filesystem::path& folder, Look look) {
    std::error_code error;
    std::filesystem::directory_iterator at(folder, error);
    for (; !error && at != std::filesystem::directory_iterator(); at.increment(error))
        if (look(at->path())) return true;
    return false;
}

inline bool has_line(const std::filesystem::path& file, const std::string& wanted) {
    std::ifstream in(file);
    for (std::string line; std::getline(in, line);)
        if (line == wanted) return true;
    return false;
}

}  // namespace detail

// "process 123 (feedhandler)" that holds the program or its link open; "" when none can be seen.
inline std::string holder_of(std::uint32_t program) {
    const std::string wanted = "prog_id:\t" + std::to_string(program);
    std::string out;
    detail::any_in("/proc", [&](const std::filesystem::path& process) {
        const std::string id = process.filename();
        if (id.find_first_not_of("0123456789") != std::string::npos) return false;
        if (!detail::any_in(process / "fdinfo",
                            [&](const auto& file) { return detail::has_line(file, wanted); }))
            return false;
        std::ifstream in(process / "comm");
        std::string name;
        std::getline(in, name);
        out = "process " + id + " (" + name + ")";
        return true;
    });
    return out;
}

class Attachment {
  public:
    // `wanted`: "native", "generic" or "auto": natively where that can be had.
    Attachment(int program, unsigned device, const std::string& wanted, const std::string& what) {
        if (wanted != "generic") {
            link_ = create_link(program, device, XDP_FLAGS_DRV_MODE);
            native_ = link_.get() >= 0;
            if (native_) return;
            refuse_if_taken(device, what);
            // The driver cannot at all, or not with this MTU (ERANGE) or these settings of its rings.
            const bool may_be_generic = wanted == "auto" && errno != EPERM && errno != EACCES;
            if (!may_be_generic)
                need(false, what,
                     std::string("native attachment (receive.xdp.attach)") +
                         (errno == ERANGE ? ": the MTU is too large" : ""));
        }
        link_ = create_link(program, device, XDP_FLAGS_SKB_MODE);
        refuse_if_taken(device, what);
        need(link_.get() >= 0, what, "generic attachment");
    }

    // Natively, or not at all; says nothing of the reason.
    static std::optional<Attachment> natively(int program, unsigned device) {
        Descriptor link = create_link(program, device, XDP_FLAGS_DRV_MODE);
        if (link.get() < 0) return std::nullopt;
        return Attachment(std::move(link));
    }

    bool native() const { return native_; }

  private:
    explicit Attachment(Descriptor native_link) : link_(std::move(native_link)), native_(true) {}

    void refuse_if_taken(unsigned device, const std::string& what) const {
        const int reason = errno;
        if (link_.get() >= 0 || (reason != EBUSY && reason != EEXIST)) return;
        const std::uint32_t id = attached_program(device);
        const std::string name = program_name(id), holder = holder_of(id);
        const std::string program =
            "XDP program " + std::to_string(id) + (name.empty() ? "" : " \"" + name + '"');
        if (holder.empty()) {
            char device_name[IF_NAMESIZE] = "";
            if_indextoname(device, device_name);
            throw std::runtime_error(what + ": " + program +
                                     " is there already, of no process that can be seen: ip link set " +
                                     device_name + " xdp off removes what another left behind");
        }
        throw std::runtime_error(what + ": " + program + " of " + holder +
                                 " is there already: a device has one program; use another device, or mode "
                                 "\"packet\" beside it");
    }

    Descriptor link_;
    bool native_ = false;
};

}  // namespace fh::receive::xdp
