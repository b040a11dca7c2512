// The lossless stream of one session: the messages of a simulated day, or of its beginning, as blocks of
// length and bytes, which is how a MoldUDP64 packet carries them.
#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>
#include <vector>

#include "simulate/exchange.hpp"

namespace soak {

class Stream {
  public:
    Stream(const fh::simulate::ExchangeSettings& day, std::uint64_t messages, const std::string& session)
        : session_(session) {
        blocks_.reserve(messages * 34);
        starts_.reserve(messages + 1);
        fh::simulate::Exchange exchange(day);
        while (!exchange.over() && starts_.size() < messages) append(exchange.next(1 << 16), messages);
        starts_.push_back(static_cast<std::uint32_t>(blocks_.size()));
    }

    const std::string& session() const { return session_; }  // ten characters
    std::uint64_t end() const { return starts_.size(); }     // one past the last number

    // Messages [first, first + count) as they lie in a packet.
    std::span<const std::uint8_t> blocks(std::uint64_t first, std::uint64_t count) const {
        const std::uint32_t from = starts_[first - 1];
        return {&blocks_[from], starts_[first - 1 + count] - from};
    }
    std::span<const std::uint8_t> message(std::uint64_t number) const { return blocks(number, 1).subspan(2); }
    // How many messages from `first` on, at most `count`, fit into `room` bytes; one always does.
    std::uint16_t fitting(std::uint64_t first, std::uint64_t count, std::size_t room) const {
        std::uint16_t fit = 1;
        while (fit < count && starts_[first + fit] - starts_[first - 1] <= room) ++fit;
        return fit;
    }

  private:
    void append(std::span<const std::uint8_t> records, std::uint64_t messages) {
        for (std::size_t at = 0; at < records.size() && starts_.size() < messages;) {
            const std::size_t bytes = 2u + static_cast<std::size_t>(records[at] << 8 | records[at + 1]);
            starts_.push_back(static_cast<std::uint32_t>(blocks_.size()));
            const auto block = records.subspan(at, bytes);
            blocks_.insert(blocks_.end(), block.begin(), block.end());
            at += bytes;
        }
    }

    std::string session_;
    std::vector<std::uint8_t> blocks_;
    std::vector<std::uint32_t> starts_;  // message n begins at starts_[n - 1]
};

}  // namespace soak
