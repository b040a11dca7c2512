// Cuts a stream of records into MoldUDP64 packets: messages of about the same instant travel together, as far
// as a packet holds.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "frame/byte_order.hpp"
#include "frame/moldudp64.hpp"

namespace fh::simulate {

inline constexpr std::size_t max_payload =
    1472;  // an Ethernet frame of 1,500 bytes without IPv4 and UDP headers
inline constexpr std::uint64_t same_instant_ns = 2000;  // how long an exchange waits for a packet to fill

struct Packet {
    std::uint64_t first_sequence;
    std::uint64_t timestamp_ns;  // of the first message, since midnight
    std::uint32_t length;        // bytes, header included
    std::uint16_t count;
};

// Records: next(bytes) gives whole records (u16 length + message) back to back, valid until the next call;
// empty: no more.
template <class Records>
class Packer {
  public:
    // `session`: ten characters.
    Packer(Records& records, std::string session) : records_(records), session_(std::move(session)) {}

    // The next packet, written to `out` (max_payload bytes). False: there are no more.
    bool next(std::uint8_t* out, Packet& packet) {
        packet = {next_sequence_, 0, frame::mold_header_bytes, 0};
        while (true) {
            if (rest_.empty() && (rest_ = records_.next(batch_bytes)).empty()) break;
            const std::size_t size = 2u + frame::load_be16(rest_.data());
            const std::uint64_t timestamp_ns = frame::load_be48(rest_.data() + 2 + 5);
            if (packet.count == 0) packet.timestamp_ns = timestamp_ns;
            if (packet.length + size > max_payload || timestamp_ns - packet.timestamp_ns > same_instant_ns)
                break;
            std::memcpy(out + packet.length, rest_.data(), size);
            packet.length += static_cast<std::uint32_t>(size);
            ++packet.count;
            rest_ = rest_.subspan(size);
        }
        next_sequence_ += packet.count;
        frame::encode_mold_header(out, session_.data(), packet.first_sequence, packet.count);
        return packet.count > 0;
    }

    std::uint64_t next_sequence() const { return next_sequence_; }
    const std::string& session() const { return session_; }

  private:
    static constexpr std::size_t batch_bytes = 32u << 10;  // stays in the first-level cache
    Records& records_;
    std::string session_;
    std::span<const std::uint8_t> rest_;
    std::uint64_t next_sequence_ = 1;
};

}  // namespace fh::simulate
