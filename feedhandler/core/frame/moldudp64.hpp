// MoldUDP64 1.00: one 20-byte header (session 10, sequence u64, count u16), then `count` blocks of u16 length
// + data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "frame/byte_order.hpp"
#include "message.hpp"

namespace fh::frame {

inline constexpr std::size_t mold_header_bytes = 20;
inline constexpr std::size_t mold_session_bytes = 10;
inline constexpr std::uint16_t mold_heartbeat = 0;            // sequence = next expected; consumes nothing
inline constexpr std::uint16_t mold_end_of_session = 0xFFFF;  // sequence = next expected; no body
inline constexpr std::uint16_t mold_max_count = 0xFFFE;       // of one packet, and of one request

// A datagram of zero-length blocks: the most messages that one can carry.
inline constexpr std::size_t mold_max_messages = (max_udp_payload - mold_header_bytes) / 2;

enum class MoldKind : std::uint8_t { data, heartbeat, end_of_session, malformed };

struct MoldPacket {
    MoldKind kind;
    std::uint16_t count;     // messages; 0 for heartbeat and end of session
    std::uint64_t sequence;  // of the first message, else the next expected
    std::uint64_t end() const { return sequence + count; }
};

// Of a datagram of at least mold_header_bytes.
struct MoldHeader {
    std::uint64_t sequence;
    std::uint16_t count;
    bool is_empty() const { return count == mold_heartbeat || count == mold_end_of_session; }
    std::uint16_t messages() const { return is_empty() ? 0 : count; }
    std::uint64_t end() const { return sequence + messages(); }
};
inline MoldHeader load_mold_header(const std::uint8_t* data) {
    return {load_be64(data + 10), load_be16(data + 18)};
}

// Checks the whole datagram before anything of it may be used: the header is there, the blocks end exactly
// where the datagram does, and the numbers do not pass 2^64 - 1. `messages` must have room for
// mold_max_messages; on `malformed` its contents mean nothing.
inline MoldPacket parse_mold(const std::uint8_t* data, std::size_t length, Message* messages) {
    constexpr MoldPacket malformed{MoldKind::malformed, 0, 0};
    if (length < mold_header_bytes || length > max_udp_payload) return malformed;
    const auto [sequence, count] = load_mold_header(data);
    if (count == mold_heartbeat || count == mold_end_of_session) [[unlikely]] {
        if (length != mold_header_bytes) return malformed;
        return {count == mold_heartbeat ? MoldKind::heartbeat : MoldKind::end_of_session, 0, sequence};
    }
    if (sequence > ~std::uint64_t{0} - count) return malformed;
    const std::uint8_t* at = data + mold_header_bytes;
    const std::uint8_t* const end = data + length;
    for (const Message* const last = messages + count; messages != last; ++messages) {
        if (end - at < 2) return malformed;
        const std::uint16_t size = load_be16(at);
        at += 2;
        if (end - at < size) return malformed;
        *messages = {at, size};
        at += size;
    }
    if (at != end) return malformed;
    return {MoldKind::data, count, sequence};
}

// As parse_mold checks it, for those who want no messages.
inline bool is_well_formed_mold(const std::uint8_t* data, std::size_t length) {
    if (length < mold_header_bytes) return false;
    const unsigned count = load_mold_header(data).messages();
    std::size_t at = mold_header_bytes;
    for (unsigned i = 0; i < count; ++i) {
        if (length - at < 2) return false;
        at += 2u + load_be16(data + at);
        if (at > length) return false;
    }
    return at == length;
}

// Numbers that a datagram brings: none for a malformed one; [n, n) for a heartbeat or an end of session.
inline SequenceRange numbers_of(const std::uint8_t* data, std::size_t length) {
    if (!is_well_formed_mold(data, length)) return {0, 0};
    const MoldHeader header = load_mold_header(data);
    return {header.sequence, header.end()};
}

// A header alone is a request (sequence = first wanted, count = how many), a heartbeat or an end of session.
inline void encode_mold_header(std::uint8_t* out, const char* session, std::uint64_t sequence,
                               std::uint16_t count) {
    std::memcpy(out, session, mold_session_bytes);
    store_be64(out + 10, sequence);
    store_be16(out + 18, count);
}

}  // namespace fh::frame
