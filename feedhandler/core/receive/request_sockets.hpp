// One UDP socket per re-request server, beside whatever receive mode brings the lines: requests out, replies
// in.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "receive/multicast.hpp"
#include "receive/source.hpp"

namespace fh::receive {

struct ServerSettings {
    std::string address;  // IPv4
    std::uint16_t port = 0;
};

class RequestSockets {
  public:
    // Late replies are still worth having: the sockets are read on each turn for so long after a request,
    // then now and then.
    static constexpr std::int64_t attention_ns = 1'000'000'000;
    static constexpr unsigned idle_turns = 64;

    explicit RequestSockets(std::span<const ServerSettings> servers) {
        receivers_.reserve(servers.size());
        for (const ServerSettings& server : servers) {
            receivers_.push_back(
                open_server(server, static_cast<std::uint16_t>(first_server_line + receivers_.size())));
            fds_.push_back(receivers_.back().fd());
        }
    }

    // An error is not reported: the request counts as lost, times out and is repeated.
    void send(std::size_t server, std::span<const std::uint8_t> datagram, std::int64_t now_ns) {
        attention_until_ns_ = now_ns + attention_ns;
        const int fd = fds_[server];
        const ssize_t sent = ::send(fd, datagram.data(), datagram.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        // The "port unreachable" of an earlier request is told once, instead of sending.
        if (sent < 0 && errno == ECONNREFUSED) {
            refused_ |= 1u << server;
            ::send(fd, datagram.data(), datagram.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        }
    }

    std::size_t poll(std::span<Datagram> out, std::int64_t now_ns) {
        if (receivers_.empty() || (now_ns >= attention_until_ns_ && ++turn_ % idle_turns != 0)) return 0;
        std::size_t count = 0;
        for (std::size_t i = 0; i < receivers_.size(); ++i) {
            count += receivers_[i].receive(out.subspan(count));
            if (receivers_[i].take_refused()) refused_ |= 1u << i;
        }
        return count;
    }
    // Bit i: the host of server i said that nobody listens there, since the last call.
    unsigned take_refused() { return std::exchange(refused_, 0u); }

    std::size_t server_count() const { return receivers_.size(); }
    std::span<const int> fds() const { return fds_; }

  private:
    // Connected: the kernel refuses datagrams from anyone but the server.
    static UdpReceiver open_server(const ServerSettings& server, std::uint16_t line) {
        const std::string what = "re-request server " + server.address + ":" + std::to_string(server.port);
        Descriptor fd(socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
        require(fd.get() >= 0, what + ": socket");
        const SourceStats granted = tune(fd.get(), false);
        const sockaddr_in address{AF_INET, htons(server.port), parse_address(server.address), {}};
        require(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0,
                what + ": connect");
        return {std::move(fd), line, granted};
    }

    std::vector<UdpReceiver> receivers_;
    std::vector<int> fds_;
    std::int64_t attention_until_ns_ = 0;
    unsigned turn_ = 0;
    unsigned refused_ = 0;
};

}  // namespace fh::receive
