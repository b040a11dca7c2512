// The reading end of the packet ring; copies first, validates afterwards (ring_reader.hpp tells why).
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "mapping.hpp"
#include "packet_ring.hpp"

namespace fh::publish {

class PacketRingReader {
  public:
    static constexpr std::size_t copy_bytes = 1u << 18;
    static_assert(copy_bytes >= longest_packet);

    // `memory`: a mapped file `packets` whose magic, version and capacity were checked. `position` and
    // `passed` (packets read or lost before it) are those of a reader before, which this one goes on for.
    explicit PacketRingReader(const std::byte* memory, std::uint64_t position = 0, std::uint64_t passed = 0)
        : header_(reinterpret_cast<const PacketRingHeader*>(memory)),
          checkpoints_(reinterpret_cast<const PacketCheckpoint*>(memory + sizeof(PacketRingHeader))),
          capacity_(header_->capacity),
          data_(memory + packets_data_offset(capacity_)),
          position_(position),
          passed_(passed),
          copy_(copy_bytes / sizeof(std::uint64_t)) {}

    // Calls handler(const PacketHeader&, const std::uint8_t* payload) for the packets that follow, oldest
    // first, at most one copy of them. A handler that returns false has not taken its packet: it comes again
    // with the next poll. Returns how many were taken. The position moves with each packet, before the next
    // call.
    template <typename Handler>
    std::size_t poll(Handler&& handler) {
        const std::uint64_t length = copy();
        const auto* bytes = reinterpret_cast<const std::uint8_t*>(copy_.data());
        std::size_t taken = 0;
        for (std::uint64_t at = 0; at + sizeof(PacketHeader) <= length;) {
            PacketHeader header;
            std::memcpy(&header, bytes + at, sizeof header);
            if (header.length == 0) {
                position_ += capacity_ - (position_ & (capacity_ - 1));
                if (position_ >= header_->tail.load(std::memory_order_acquire)) damaged();
                break;
            }
            if (header.length != ((sizeof header + header.payload + 7) & ~std::size_t{7}) ||
                header.line >= max_lines + max_servers)
                damaged();
            if (at + header.length > length) break;  // the rest of it comes with the next copy
            position_ += header.length;
            ++passed_;
            if (!handler(static_cast<const PacketHeader&>(header), bytes + at + sizeof header)) {
                position_ -= header.length;
                --passed_;
                break;
            }
            ++taken;
            at += header.length;
        }
        // Padding shorter than a packet's header at the very end of the buffer.
        if (length > 0 && length < sizeof(PacketHeader) && copy_[0] << 32 == 0) position_ += length;
        return taken;
    }

    bool available() const { return header_->tail.load(std::memory_order_acquire) > position_; }
    std::uint64_t position() const { return position_; }
    std::uint64_t passed() const { return passed_; }  // packets before the position: read or lost
    std::uint64_t lost() const { return lost_; }      // packets, by this reader
    const PacketOrigins& origins() const { return header_->origins; }
    std::uint64_t epoch() const { return header_->epoch; }

  private:
    // A validated copy of what follows the position: bytes, 0 when there is nothing.
    std::uint64_t copy() {
        for (unsigned attempt = 0; attempt < most_attempts; ++attempt) {
            const std::uint64_t tail = header_->tail.load(std::memory_order_acquire);
            if (tail <= position_) return 0;
            const std::uint64_t offset = position_ & (capacity_ - 1);
            const std::uint64_t length =
                std::min({tail - position_, capacity_ - offset, std::uint64_t{copy_bytes}});
            load_words(copy_.data(), data_ + offset, length);
            if (still_valid(position_)) return length;
            rejoin_newest();
        }
        damaged();
    }

    // A writer would have to come round once in every one of so many looks.
    static constexpr unsigned most_attempts = 1u << 20;

    [[noreturn]] void damaged() const {
        throw ChannelError("packets: damaged at position " + std::to_string(position_));
    }

    void rejoin_newest() {
        for (unsigned attempt = 0; !rejoin(); ++attempt)
            if (attempt == most_attempts) damaged();
    }

    bool still_valid(std::uint64_t position) const {
        std::atomic_thread_fence(std::memory_order_acquire);
        return header_->tail_intent.load(std::memory_order_relaxed) <= position + capacity_;
    }

    // Move to the newest checkpoint; false: lapped even while reading it, try again.
    bool rejoin() {
        const std::uint64_t tail = header_->tail.load(std::memory_order_acquire);
        if (tail == 0) return true;
        const std::uint64_t step = (tail - 1) / ring_step;
        PacketCheckpoint checkpoint;
        load_words(&checkpoint, &checkpoints_[step % (capacity_ / ring_step)], sizeof checkpoint);
        if (!still_valid(step * ring_step)) return false;
        if (checkpoint.step != step) damaged();
        if (checkpoint.position <= position_) return true;
        lost_ += checkpoint.packets - passed_;
        passed_ = checkpoint.packets;
        position_ = checkpoint.position;
        return true;
    }

    const PacketRingHeader* header_;
    const PacketCheckpoint* checkpoints_;
    std::uint64_t capacity_;
    const std::byte* data_;
    std::uint64_t position_;
    std::uint64_t passed_;
    std::uint64_t lost_ = 0;
    std::vector<std::uint64_t> copy_;
};

}  // namespace fh::publish
