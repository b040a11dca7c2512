// Sends packets to multicast groups, one per line, each line with faults of its own.
#pragma once

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "receive/lossy.hpp"

namespace fh::simulate {

struct LineTarget {
    std::string name;
    std::string group;  // IPv4 multicast address
    std::uint16_t port = 0;
    std::string interface;  // an address or a device name
    int ttl = 1;
    receive::Faults faults;
};

// A connected UDP socket of its own for each line.
class LineSocket {
  public:
    explicit LineSocket(const LineTarget& target) : fd_(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
        const std::string what = "line " + target.name + ": " + target.group + ":" +
                                 std::to_string(target.port) + " by " + target.interface;
        check(fd_ >= 0, what);
        ip_mreqn by{};
        if (inet_pton(AF_INET, target.interface.c_str(), &by.imr_address) != 1) {
            by.imr_ifindex = static_cast<int>(if_nametoindex(target.interface.c_str()));
            check(by.imr_ifindex != 0, what);
        }
        check(setsockopt(fd_, IPPROTO_IP, IP_MULTICAST_IF, &by, sizeof by) == 0, what);
        const int loop = 1;  // receivers on this machine too
        check(setsockopt(fd_, IPPROTO_IP, IP_MULTICAST_LOOP, &loop, sizeof loop) == 0, what);
        check(setsockopt(fd_, IPPROTO_IP, IP_MULTICAST_TTL, &target.ttl, sizeof target.ttl) == 0, what);
        const int bytes = 8 << 20;
        setsockopt(fd_, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
        sockaddr_in to{};
        to.sin_family = AF_INET;
        to.sin_port = htons(target.port);
        check(inet_pton(AF_INET, target.group.c_str(), &to.sin_addr) == 1, what);
        check(connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0, what);
    }
    LineSocket(const LineSocket&) = delete;
    LineSocket& operator=(const LineSocket&) = delete;
    ~LineSocket() { close(); }

    void send(mmsghdr* messages, unsigned count) {
        while (count > 0) {
            const int sent = sendmmsg(fd_, messages, count, 0);
            if (sent < 0 && (errno == EINTR || errno == ENOBUFS || errno == EAGAIN)) continue;
            if (sent < 0) throw std::system_error(errno, std::generic_category(), "send");
            messages += sent;
            count -= static_cast<unsigned>(sent);
        }
    }

  private:
    void close() {
        if (fd_ >= 0) ::close(fd_);
    }
    void check(bool ok, const std::string& what) {
        if (ok) return;
        const int error = errno;
        close();
        throw std::system_error(error, std::generic_category(), what);
    }
    int fd_;
};

// Packets are collected and go out with one system call per line. No allocation after construction.
class LineSender {
  public:
    static constexpr std::size_t batch = 48;  // packets; their copies must fit what a lossy line holds

    // `same_faults`: the lines draw the same dice, so that with the same faults they lose the same packets.
    LineSender(const std::vector<LineTarget>& targets, std::uint64_t seed, bool same_faults = false) {
        for (unsigned i = 0; i < targets.size(); ++i)
            lines_.push_back(std::make_unique<Line>(targets[i], seed, same_faults ? 0 : i));
    }

    // Offers a packet to every line. Its memory must stay until `flush`; at most `batch` packets between two.
    void push(const std::uint8_t* data, std::uint32_t length) {
        for (auto& line : lines_) {
            line->faults.push({data, length, 0, TimestampKind::none, 0},
                              [&](const Datagram& out) { line->queue(out); });
        }
    }

    void flush() {
        for (auto& line : lines_) line->send();
    }

    // The lines fall silent: packets that are still delayed go out now.
    void release_delayed() {
        for (auto& line : lines_) {
            line->faults.flush(0, [&](const Datagram& out) { line->queue(out); });
            line->send();
        }
    }

    std::size_t size() const { return lines_.size(); }
    const receive::FaultCounts& counts(std::size_t line) const { return lines_[line]->faults.counts(); }

  private:
    struct Line {
        Line(const LineTarget& target, std::uint64_t seed, unsigned index)
            : socket(target), faults(target.faults, seed, index) {
            for (std::size_t i = 0; i < messages.size(); ++i) {
                messages[i].msg_hdr.msg_iov = &parts[i];
                messages[i].msg_hdr.msg_iovlen = 1;
            }
        }
        void queue(const Datagram& packet) {
            parts[queued++] = {const_cast<std::uint8_t*>(packet.data), packet.length};
        }
        void send() {
            socket.send(messages.data(), queued);
            queued = 0;
            faults.recycle();
        }
        LineSocket socket;
        receive::LossyLine faults;
        std::array<mmsghdr, 3 * batch> messages{};  // each packet, its duplicate, and those delayed before
        std::array<iovec, 3 * batch> parts{};
        unsigned queued = 0;
    };
    std::vector<std::unique_ptr<Line>> lines_;
};

}  // namespace fh::simulate
