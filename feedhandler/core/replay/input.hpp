// What is replayed: MoldUDP64 packets with the line they came by and their time, from whatever file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "message.hpp"
#include "receive/file_bytes.hpp"

namespace fh::replay {

// The line of what re-request servers gave, which only a journal holds: known from then on, played on no
// line.
inline constexpr std::uint16_t reply_line = 0xffff;

inline constexpr std::size_t mtu_payload = 1472;  // UDP payload of an Ethernet MTU of 1,500 bytes

struct InputPacket {
    const std::uint8_t* data;    // UDP payload; valid until the next call of next()
    std::uint32_t length;        // bytes
    std::uint16_t line;          // index of the group it came by
    TimestampKind kind;          // of its time
    std::int64_t ts_ns;          // UTC
    const std::uint8_t* blocks;  // the message blocks, into the file: valid as long as the file
};

// What is taken of an input: packets with begin_ns <= time < end_ns, UTC.
struct Period {
    std::int64_t begin_ns = std::numeric_limits<std::int64_t>::min();
    std::int64_t end_ns = std::numeric_limits<std::int64_t>::max();
    bool holds(std::int64_t ns) const { return ns >= begin_ns && ns < end_ns; }
};

struct InputEnd {
    receive::FileEnd end = receive::FileEnd::none;
    std::uint64_t offset = 0;     // in the file, of the record that could not be read
    std::uint64_t trailing = 0;   // bytes behind the end of the session
    std::uint64_t cut = 0;        // frames cut by the snap length
    std::uint64_t fragments = 0;  // frames with a part of a datagram
};

class Input {
  public:
    virtual ~Input() = default;
    virtual bool next(InputPacket& out) = 0;
    virtual void rewind() = 0;
    // From here on next() gives replies too (line reply_line), or not.
    virtual void offer_replies(bool /*wanted*/) {}
    // How reading ended, and what it had to leave out.
    virtual InputEnd end() const = 0;
};

}  // namespace fh::replay
