// What travels between the stages, before anything is known of its meaning.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fh {

// One application message: a MoldUDP64 message block without its length. Points into the packet's memory.
struct Message {
    const std::uint8_t* data;
    std::uint16_t length;  // bytes
};

// Who told the time. `doubtful` comes on top of any of them: not to be trusted (F_BAD_TS_RECV).
enum class TimestampKind : std::uint8_t { none = 0, user = 1, kernel = 2, hardware = 3, doubtful = 4 };
constexpr TimestampKind in_doubt(TimestampKind kind) {
    return static_cast<TimestampKind>(static_cast<unsigned>(kind) | 4u);
}
constexpr bool is_doubtful(TimestampKind kind) { return (static_cast<unsigned>(kind) & 4u) != 0; }
constexpr TimestampKind without_doubt(TimestampKind kind) {
    return static_cast<TimestampKind>(static_cast<unsigned>(kind) & 3u);
}

// One UDP payload as a source hands it over; valid until the source is polled again.
struct Datagram {
    const std::uint8_t* data;
    std::uint32_t length;  // bytes
    std::uint16_t line;    // index of the line it came by
    TimestampKind timestamp_kind;
    std::int64_t ts_recv_ns;  // UTC
};

// Sequence numbers start at 1 (MoldUDP64); ranges are half open [first, end).
struct SequenceRange {
    std::uint64_t first;
    std::uint64_t end;
    std::uint64_t size() const { return end - first; }
    bool operator==(const SequenceRange&) const = default;
};

inline constexpr std::size_t max_lines = 8;    // multicast lines of one channel
inline constexpr std::size_t max_servers = 8;  // re-request servers of one channel
inline constexpr std::size_t max_udp_payload = 65507;
inline constexpr std::size_t lookahead_messages = 64;  // announced together, at most

}  // namespace fh
