// Multicast lines by kernel sockets: works everywhere, needs no privilege.
#pragma once

#include <span>
#include <vector>

#include "receive/first_turn.hpp"
#include "receive/multicast.hpp"
#include "receive/source.hpp"

namespace fh::receive {

class SocketSource {
  public:
    SocketSource(std::span<const LineSettings> lines, bool spin) : first_turn_(lines.size()) {
        receivers_.reserve(lines.size());
        for (const LineSettings& line : lines) {
            receivers_.push_back(open_line(line, static_cast<std::uint16_t>(receivers_.size()), spin));
            fds_.push_back(receivers_.back().fd());
        }
    }

    // Up to UdpReceiver::batch datagrams of each line, line by line; the very first ones in order of arrival.
    std::size_t poll(std::span<Datagram> out) {
        if (!first_turn_.over()) [[unlikely]]
            return first_turn_.poll(out, [this](std::size_t receiver, std::span<Datagram> rest) {
                return receivers_[receiver].receive(rest);
            });
        std::size_t count = 0;
        for (UdpReceiver& receiver : receivers_) count += receiver.receive(out.subspan(count));
        return count;
    }

    std::span<const int> fds() const { return fds_; }
    std::size_t line_count() const { return receivers_.size(); }
    SourceStats stats(std::size_t line) const { return receivers_[line].stats(); }
    const ReceiveCounters& counters() const { return none_; }
    void refresh_stats() {
        for (UdpReceiver& receiver : receivers_) receiver.refresh_stats();
    }

  private:
    FirstTurn first_turn_;
    std::vector<UdpReceiver> receivers_;
    std::vector<int> fds_;
    ReceiveCounters none_;
};
static_assert(Source<SocketSource>);

}  // namespace fh::receive
