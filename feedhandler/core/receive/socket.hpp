// Multicast lines by kernel sockets: works everywhere, needs no privilege.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "receive/multicast.hpp"
#include "receive/source.hpp"

namespace fh::receive {

class SocketSource {
  public:
    SocketSource(std::span<const LineSettings> lines, bool spin) {
        receivers_.reserve(lines.size());
        had_first_.resize(lines.size());
        for (const LineSettings& line : lines) {
            receivers_.push_back(open_line(line, static_cast<std::uint16_t>(receivers_.size()), spin));
            fds_.push_back(receivers_.back().fd());
        }
    }

    // Up to UdpReceiver::batch datagrams of each line, line by line; the very first ones in order of arrival.
    std::size_t poll(std::span<Datagram> out) {
        if (!heard_) [[unlikely]]
            return poll_first(out);
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
    // The feed starts with the packet that is handled first. While later lines are read, an earlier packet
    // may arrive on a line that was empty a moment ago: look there again, and let the time of arrival decide.
    std::size_t poll_first(std::span<Datagram> out) {
        std::size_t count = 0;
        auto had = had_first_.begin();
        for (UdpReceiver& receiver : receivers_) {
            const std::size_t got = receiver.receive(out.subspan(count));
            *had++ = got != 0;
            count += got;
        }
        if (count == 0) return 0;
        heard_ = true;
        for (std::size_t i = 0; i < receivers_.size(); ++i)
            if (!had_first_[i]) count += receivers_[i].receive(out.subspan(count));
        std::ranges::sort(out.first(count), {}, &Datagram::ts_recv_ns);
        return count;
    }

    bool heard_ = false;
    std::vector<bool> had_first_;
    std::vector<UdpReceiver> receivers_;
    std::vector<int> fds_;
    ReceiveCounters none_;
};
static_assert(Source<SocketSource>);

}  // namespace fh::receive
