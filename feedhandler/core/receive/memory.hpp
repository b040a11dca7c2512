// Datagrams that already lie in memory: for tests and benchmarks.
#pragma once

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "receive/source.hpp"

namespace fh::receive {

class MemorySource {
  public:
    explicit MemorySource(std::size_t lines = 1, std::size_t batch = 32) : lines_(lines), batch_(batch) {}

    // Copies; not for the receive thread.
    void add(std::uint16_t line, std::span<const std::uint8_t> payload, std::int64_t ts_recv_ns = 0,
             TimestampKind kind = TimestampKind::none) {
        entries_.push_back(
            {bytes_.size(), static_cast<std::uint32_t>(payload.size()), line, kind, ts_recv_ns});
        bytes_.insert(bytes_.end(), payload.begin(), payload.end());
    }

    std::size_t poll(std::span<Datagram> out) {
        const std::size_t count = std::min({out.size(), batch_, entries_.size() - next_});
        for (std::size_t i = 0; i < count; ++i) {
            const Entry& entry = entries_[next_ + i];
            out[i] = {bytes_.data() + entry.offset, entry.length, entry.line, entry.kind, entry.ts_recv_ns};
        }
        next_ += count;
        return count;
    }

    void rewind() { next_ = 0; }
    bool exhausted() const { return next_ == entries_.size(); }
    std::span<const int> fds() const { return {}; }
    std::size_t line_count() const { return lines_; }
    SourceStats stats(std::size_t) const { return {}; }
    const ReceiveCounters& counters() const { return none_; }
    void refresh_stats() {}

  private:
    struct Entry {
        std::size_t offset;
        std::uint32_t length;
        std::uint16_t line;
        TimestampKind kind;
        std::int64_t ts_recv_ns;
    };
    std::vector<std::uint8_t> bytes_;
    std::vector<Entry> entries_;
    std::size_t next_ = 0;
    std::size_t lines_;
    std::size_t batch_;
    ReceiveCounters none_;
};
static_assert(Source<MemorySource>);

}  // namespace fh::receive
