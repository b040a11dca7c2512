// What sessions a stretch of a journal holds, from packet headers alone: fast, and no proof of anything.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "frame/moldudp64.hpp"
#include "journal/records.hpp"

namespace fh::journal {

struct SessionSeen {
    std::array<char, frame::mold_session_bytes> session{};
    std::uint64_t packets = 0;
    std::uint64_t messages = 0;  // with their copies
    std::uint64_t bytes = 0;     // of those messages and their framing
    std::uint64_t first = 0;     // number that the first packet told, or a lower one that a server brought
    std::uint64_t next = 0;      // one past the highest number
    std::int64_t first_ns = 0;
    std::int64_t last_ns = 0;
    bool ended = false;
};

class Survey {
  public:
    void begin_segment() { records_.begin_segment(); }
    // Throws std::invalid_argument.
    void read(std::span<const std::uint8_t> bytes) {
        records_.read(bytes, [this](const Datagram& datagram) { on_datagram(datagram); });
    }
    const std::vector<SessionSeen>& sessions() const { return sessions_; }  // in order of appearance

  private:
    static constexpr std::size_t most_sessions = 64;  // the rest is noise
    static constexpr std::uint64_t most_missing = 10'000'000;

    void on_datagram(const Datagram& datagram) {
        if (datagram.length < frame::mold_header_bytes) return;
        SessionSeen* seen = find(datagram);
        if (seen == nullptr) return;
        const frame::MoldHeader header = frame::load_mold_header(datagram.data);
        if (datagram.line >= max_lines) {
            seen->first = std::min(seen->first, header.sequence);
            return;
        }
        if (seen->packets != 0 && header.sequence > seen->next + most_missing) return;  // a damaged header
        const bool ends = header.count == frame::mold_end_of_session;
        seen->ended = ends || (seen->ended && header.end() <= seen->next);
        seen->next = std::max(seen->next, header.end());
        seen->last_ns = datagram.ts_recv_ns;
        ++seen->packets;
        if (header.is_empty()) return;
        seen->messages += header.count;
        seen->bytes += datagram.length - frame::mold_header_bytes;
    }

    SessionSeen* find(const Datagram& datagram) {
        for (auto seen = sessions_.rbegin(); seen != sessions_.rend(); ++seen) {
            if (std::memcmp(seen->session.data(), datagram.data, seen->session.size()) == 0) return &*seen;
        }
        if (datagram.line >= max_lines || sessions_.size() == most_sessions) return nullptr;
        SessionSeen& seen = sessions_.emplace_back();
        std::memcpy(seen.session.data(), datagram.data, seen.session.size());
        seen.first = frame::load_mold_header(datagram.data).sequence;
        seen.first_ns = datagram.ts_recv_ns;
        return &seen;
    }

    RecordReader records_;
    std::vector<SessionSeen> sessions_;
};

}  // namespace fh::journal
