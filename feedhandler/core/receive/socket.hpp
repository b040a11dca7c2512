// Multicast lines by kernel sockets: works everywhere, needs no privilege.
#pragma once

#include <span>
#include <vector>

#include "receive/multicast.hpp"
#include "receive/source.hpp"

namespace fh::receive {

class SocketSource {
  public:
    SocketSource(std::span<const LineSettings> lines, bool spin) {
        receivers_.reserve(lines.size());
        for (const LineSettings& line : lines) {
            receivers_.push_back(open_line(line, static_cast<std::uint16_t>(receivers_.size()), spin));
            fds_.push_back(receivers_.back().fd());
        }
    }

    // Up to UdpReceiver::batch datagrams of each line, line by line.
    std::size_t poll(std::span<Datagram> out) {
        std::size_t count = 0;
        for (UdpReceiver& receiver : receivers_) count += receiver.receive(out.subspan(count));
        return count;
    }

    std::span<const int> fds() const { return fds_; }
    std::size_t line_count() const { return receivers_.size(); }
    SourceStats stats(std::size_t line) const { return receivers_[line].stats(); }
    void refresh_stats() {
        for (UdpReceiver& receiver : receivers_) receiver.refresh_stats();
    }

  private:
    std::vector<UdpReceiver> receivers_;
    std::vector<int> fds_;
};
static_assert(Source<SocketSource>);

}  // namespace fh::receive
