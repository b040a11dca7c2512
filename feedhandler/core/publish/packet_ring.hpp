// The raw packets of a channel in shared memory, for the journal: file `packets` of the channel's folder,
// there only when a journal is configured. The protocol is the record ring's (layout.hpp, ring_writer.hpp):
// broadcast, lossy, the writer never waits; with checkpoints that count packets, so that a reader that was
// lapped knows exactly how many it has lost.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>

#include "../message.hpp"
#include "layout.hpp"
#include "words.hpp"

namespace fh::publish {

inline constexpr std::uint64_t packets_magic = 0x31544b4350434846;  // "FHCPCKT1"

// Where the packets of one line or re-request server come from; IPv4 in host order, 0 = unknown.
struct PacketOrigin {
    std::uint32_t address;  // the line's group; the server
    std::uint32_t source;   // of a line with source-specific multicast
    std::uint16_t port;
    std::uint16_t reserved[3];
};
static_assert(sizeof(PacketOrigin) == 16);

// Lines, then (from max_lines on) re-request servers: the index is Datagram::line.
using PacketOrigins = std::array<PacketOrigin, max_lines + max_servers>;

struct alignas(4096) PacketRingHeader {
    std::atomic<std::uint64_t> magic;
    std::uint32_t version;
    std::uint32_t reserved;
    std::uint64_t capacity;  // bytes, a power of two, at least smallest_packet_ring
    std::uint64_t epoch;     // the channel's
    PacketOrigins origins;
    alignas(cache_line) std::atomic<std::uint64_t> tail_intent;
    alignas(cache_line) std::atomic<std::uint64_t> tail;
};

struct PacketHeader {
    std::uint32_t length;  // bytes with this header, a multiple of 8; 0 = padding up to the end of the buffer
    std::uint16_t payload;  // bytes
    std::uint8_t line;
    TimestampKind timestamp_kind;
    std::int64_t ts_recv_ns;  // UTC
};
static_assert(sizeof(PacketHeader) == 16);

inline constexpr std::size_t longest_packet = (sizeof(PacketHeader) + max_udp_payload + 7) / 8 * 8;
inline constexpr std::uint64_t smallest_packet_ring = 16 * ring_step;  // four of the longest packets

// The first packet that ends in a step; as Checkpoint of the record ring.
struct PacketCheckpoint {
    std::uint64_t step;
    std::uint64_t position;
    std::uint64_t packets;  // before it
    std::uint64_t reserved;
};

constexpr std::size_t packets_data_offset(std::uint64_t capacity) {
    const std::size_t end = sizeof(PacketRingHeader) + capacity / ring_step * sizeof(PacketCheckpoint);
    return (end + 4095) / 4096 * 4096;
}
constexpr std::size_t packets_file_size(std::uint64_t capacity) {
    return packets_data_offset(capacity) + capacity;
}

// One thread; no allocation, no lock, no system call.
class PacketRingWriter {
  public:
    // `memory`: packets_file_size(capacity) zero bytes, page aligned.
    PacketRingWriter(std::byte* memory, std::uint64_t capacity, std::uint64_t epoch,
                     const PacketOrigins& origins)
        : header_(new (memory) PacketRingHeader{}),
          checkpoints_(reinterpret_cast<PacketCheckpoint*>(memory + sizeof(PacketRingHeader))),
          data_(memory + packets_data_offset(capacity)),
          capacity_(capacity) {
        header_->version = layout_version;
        header_->capacity = capacity;
        header_->epoch = epoch;
        header_->origins = origins;
        header_->magic.store(packets_magic, std::memory_order_release);
    }

    // Copies the datagram; visible at once. The stores are ordered as in RingWriter.
    void put(const Datagram& datagram) {
        if (datagram.length > max_udp_payload) [[unlikely]]
            return;
        const std::uint32_t length =
            (static_cast<std::uint32_t>(sizeof(PacketHeader)) + datagram.length + 7) & ~7u;
        if (position_ + length > intent_) [[unlikely]]
            announce(length);
        std::byte* packet = data_ + (position_ & (capacity_ - 1));
        const PacketHeader header{length, static_cast<std::uint16_t>(datagram.length),
                                  static_cast<std::uint8_t>(datagram.line), datagram.timestamp_kind,
                                  datagram.ts_recv_ns};
        store_words(packet, &header, sizeof header);
        std::memcpy(packet + sizeof header, datagram.data, datagram.length);
        position_ += length;
        ++packets_;
        header_->tail.store(position_, std::memory_order_release);
    }

    std::uint64_t packets() const { return packets_; }

  private:
    // See RingWriter::announce; a packet may span several steps, then only the one it ends in has a
    // checkpoint.
    [[gnu::noinline]] void announce(std::uint32_t length) {
        const std::uint64_t offset = position_ & (capacity_ - 1);
        const bool wrap = offset + length > capacity_;
        const std::uint64_t start = wrap ? position_ - offset + capacity_ : position_;
        const std::uint64_t step = (start + length - 1) / ring_step;
        intent_ = (step + 1) * ring_step;
        header_->tail_intent.store(intent_, std::memory_order_relaxed);
        std::atomic_thread_fence(std::memory_order_release);
        if (wrap) store_word(data_ + offset, 0);
        position_ = start;
        const PacketCheckpoint checkpoint{step, start, packets_, 0};
        store_words(&checkpoints_[step % (capacity_ / ring_step)], &checkpoint, sizeof checkpoint);
    }

    PacketRingHeader* header_;
    PacketCheckpoint* checkpoints_;
    std::byte* data_;
    std::uint64_t capacity_;
    std::uint64_t position_ = 0;
    std::uint64_t intent_ = 0;
    std::uint64_t packets_ = 0;
};

}  // namespace fh::publish
