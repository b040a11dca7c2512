// What DPDK's driver net_af_xdp needs on its device: our filter instead of its own, which would take the
// kernel's IGMP queries too, and no program in the way. The driver attaches for good: after kill -9 the
// program stays, is known by its name, and removed when that was asked for.
#pragma once

#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>

#include "receive/device_lines.hpp"
#include "receive/dpdk/filter_object.hpp"
#include "receive/xdp/attachment.hpp"
#include "receive/xdp/bpf.hpp"

namespace fh::receive::dpdk {

// Takes the program off the device, if it is still that one.
inline bool detach(unsigned device, std::uint32_t program_id) {
    bpf_attr open = xdp::request();
    open.prog_id = program_id;
    const Descriptor program(static_cast<int>(xdp::bpf(BPF_PROG_GET_FD_BY_ID, open)));
    if (program.get() < 0) return false;
    const Descriptor netlink(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
    struct Word {
        rtattr header;
        std::int32_t value;
    };
    struct {
        nlmsghdr header;
        ifinfomsg link;
        rtattr nest;
        Word fd, expected, flags;
    } ask{};
    ask.header.nlmsg_len = sizeof(ask);
    ask.header.nlmsg_type = RTM_SETLINK;
    ask.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
    ask.link.ifi_index = static_cast<int>(device);
    ask.nest = {sizeof(ask.nest) + 3 * sizeof(Word), NLA_F_NESTED | IFLA_XDP};
    ask.fd = {{sizeof(Word), IFLA_XDP_FD}, -1};
    ask.expected = {{sizeof(Word), IFLA_XDP_EXPECTED_FD}, program.get()};
    ask.flags = {{sizeof(Word), IFLA_XDP_FLAGS}, XDP_FLAGS_REPLACE};
    struct {
        nlmsghdr header;
        nlmsgerr error;
    } answer{};
    return send(netlink.get(), &ask, sizeof(ask), 0) == sizeof(ask) &&
           recv(netlink.get(), &answer, sizeof(answer), MSG_TRUNC) > 0 &&
           answer.header.nlmsg_type == NLMSG_ERROR && answer.error.error == 0;
}

// Says to others that the program on the device is in use, until this process ends however it does: a name
// in the network namespace, which the kernel frees.
class DeviceClaim {
  public:
    explicit DeviceClaim(unsigned device) : socket_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        const std::string name = "feedhandler-dpdk-" + std::to_string(device);
        name.copy(address.sun_path + 1, sizeof(address.sun_path) - 2);
        const auto bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
        granted_ = ::bind(socket_.get(), reinterpret_cast<const sockaddr*>(&address), bytes) == 0;
        others_ = !granted_ && errno == EADDRINUSE;
    }
    bool granted() const { return granted_; }
    bool others() const { return others_; }

  private:
    Descriptor socket_;
    bool granted_ = false, others_ = false;
};

// The device that the driver is told to use: not the lines' where they are joined by one above it (a bond).
inline std::string device_of_port(const std::string& port, const DeviceLines& lines) {
    constexpr std::string_view argument = ",iface=";
    const std::size_t at = port.find(argument);
    if (at == std::string::npos) return lines.device;
    const std::size_t begin = at + argument.size();
    const std::string own = device_named(port.substr(begin, port.find(',', begin) - begin).c_str());
    return own.empty() ? lines.device : own;
}

class XdpPort {
  public:
    // `port`: the driver's name and arguments. Throws when the device has a program, or soon will: the driver
    // takes off whatever is there when it cannot start, somebody else's too.
    XdpPort(const std::string& port, const DeviceLines& lines, bool remove_leftover)
        : device_(device_of_port(port, lines)),
          index_(if_nametoindex(device_.c_str())),
          queues_(receive_queues(device_)),
          claim_(index_),
          filter_(filter_object(lines.table, queues_.all)),
          text_(port) {
        if (port.find(",xdp_prog=") == std::string::npos) {
            text_ += ",xdp_prog=" + filter_.path();
            if (port.find(",queue_count=") == std::string::npos) read_all_queues();
        }
        make_way(remove_leftover);
    }

    const std::string& text() const { return text_; }

  private:
    std::string what() const { return "receive.mode \"dpdk\" on " + device_ + ": "; }

    // The driver reads combined queues, or else one.
    void read_all_queues() {
        const std::uint32_t readable = std::max(queues_.combined, 1u);
        if (queues_.all > readable)
            throw std::runtime_error(
                what() + std::to_string(queues_.all) + " receive queues, of which net_af_xdp reads " +
                std::to_string(readable) + ": ethtool -L " + device_ + " rx " + std::to_string(readable));
        text_ += ",queue_count=" + std::to_string(readable);
    }

    void make_way(bool remove_leftover) const {
        const std::uint32_t id = xdp::attached_program(index_);
        if (id == 0) {
            if (!claim_.others()) return;
            throw std::runtime_error(what() + "a feedhandler that has just started takes it");
        }
        const std::string name = xdp::program_name(id), holder = xdp::holder_of(id);
        const bool left_behind = claim_.granted() && name == filter_name && holder.empty();
        if (left_behind && remove_leftover && detach(index_, id)) return;
        const std::string remedy = "ip link set " + device_ + " xdp off";
        std::string text = what() + "XDP program " + std::to_string(id) +
                           (name.empty() ? "" : " \"" + name + '"') +
                           (holder.empty() ? "" : " of " + holder) + " is there already";
        if (left_behind)
            text +=
                ", left behind by a feedhandler that was killed: receive.dpdk.remove_leftover = true "
                "takes it off, or " +
                remedy;
        else if (claim_.others())
            text += ", in use by a feedhandler";
        else if (name.empty())
            text += ", and only CAP_SYS_ADMIN may read its name: " + remedy +
                    " takes it off, if a feedhandler that was killed left it";
        throw std::runtime_error(text);
    }

    std::string device_;
    unsigned index_;
    ReceiveQueues queues_;
    DeviceClaim claim_;
    FilterFile filter_;
    std::string text_;
};

}  // namespace fh::receive::dpdk
