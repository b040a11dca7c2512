// BinaryFILE as input: its messages framed into MoldUDP64 packets by a fixed rule, so that the same file
// gives the same packets.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "frame/moldudp64.hpp"
#include "receive/file_binary.hpp"
#include "replay/input.hpp"
#include "replay/store.hpp"

namespace fh::replay {

// The rule: a packet takes messages while they fit into an Ethernet MTU of 1,500 (1,472 bytes of UDP payload)
// and their time lies within pack_window_ns of the packet's first message, which is about what an exchange's
// publisher collects while it is sending. Its time is that of its last message, since it cannot have been
// sent before; a line carries one packet after the other at 10 Gbit/s, so that time moves on even where
// timestamps stand still. Message i of the file has the sequence number i.
class BinaryInput final : public Input {
  public:
    static constexpr std::int64_t pack_window_ns = 20'000;
    static constexpr char session[] = "BINARYFILE";

    BinaryInput(receive::FileBytes file, std::int64_t midnight_ns)
        : file_(file), midnight_ns_(midnight_ns), reader_(file) {}

    bool next(InputPacket& out) override {
        Message message;
        if (!reader_.peek(message)) return false;
        if (message.length > longest_message) {
            too_long_ = true;
            return false;
        }
        const std::uint8_t* blocks = message.data - 2;
        const std::int64_t first_ns = time_of(message);
        std::int64_t last_ns, next_ns = first_ns;
        std::size_t length = frame::mold_header_bytes;
        std::uint16_t count = 0;
        do {
            last_ns = next_ns;
            reader_.skip(message);
            length += 2u + message.length;
            ++count;
            if (!reader_.peek(message) || length + 2u + message.length > mtu_payload) break;
            next_ns = time_of(message);
        } while (std::abs(next_ns - first_ns) <= pack_window_ns);

        frame::encode_mold_header(packet_.get(), session, sequence_, count);
        std::memcpy(packet_.get() + frame::mold_header_bytes, blocks, length - frame::mold_header_bytes);
        sequence_ += count;
        clock_ns_ = std::max(last_ns, clock_ns_ + wire_time_ns(length));
        out = InputPacket{
            packet_.get(), static_cast<std::uint32_t>(length), 0, TimestampKind::none, clock_ns_, blocks};
        return true;
    }

    void rewind() override { *this = BinaryInput(file_, midnight_ns_); }
    InputEnd end() const override {
        return {too_long_ ? receive::FileEnd::broken : reader_.end(), reader_.offset(), reader_.trailing(), 0,
                0};
    }

    // What a file without a message holds.
    static InputSession empty_session() {
        InputSession out;
        std::copy_n(session, out.name.size(), out.name.begin());
        out.first = out.end = 1;
        return out;
    }

  private:
    static constexpr std::size_t longest_message = max_udp_payload - frame::mold_header_bytes - 2;
    static constexpr std::int64_t day_ns = 86'400'000'000'000;

    // Preamble, Ethernet, IPv4, UDP, FCS and the gap between frames are 66 bytes; 0.8 ns a byte.
    static std::int64_t wire_time_ns(std::size_t payload) {
        return static_cast<std::int64_t>((payload + 66) * 4 / 5);
    }

    // Bytes 5 to 10 of every message are nanoseconds since midnight; one too short, or past the day, tells no
    // time.
    std::int64_t time_of(const Message& message) {
        if (message.length >= 11) {
            std::uint64_t word;
            std::memcpy(&word, message.data + 3, sizeof word);
            const auto ns = static_cast<std::int64_t>(__builtin_bswap64(word) & 0xFFFF'FFFF'FFFF);
            if (ns < day_ns) newest_ns_ = midnight_ns_ + ns;
        }
        return newest_ns_;
    }

    receive::FileBytes file_;
    std::int64_t midnight_ns_;
    receive::BinaryFileReader reader_;
    std::uint64_t sequence_ = 1;
    std::int64_t newest_ns_ = midnight_ns_;  // of the message looked at last
    std::int64_t clock_ns_ = midnight_ns_;   // of the packet made last
    bool too_long_ = false;
    std::unique_ptr<std::uint8_t[]> packet_ = std::make_unique_for_overwrite<std::uint8_t[]>(max_udp_payload);
};

}  // namespace fh::replay
