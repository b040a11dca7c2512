// Messages that came before their turn: copied into preallocated slabs, found by number.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>

#include "frame/byte_order.hpp"
#include "message.hpp"

namespace fh::sequence {

struct Receipt {
    std::int64_t ts_recv_ns;
    TimestampKind kind;
    bool operator==(const Receipt&) const = default;
};

// Bounded by messages and by bytes. What does not fit is refused whole; the arbiter then counts its numbers
// as missing. A slab is free again when its last message has gone. Number n has the slot n % slots, and there
// are at least twice as many slots as messages: two runs of numbers (what is recovered, and what is held
// behind it) can only meet there if millions lie between them, and the later one is then refused.
class Hold {
  public:
    // As large as the blocks of the largest datagram and their receipt.
    static constexpr std::size_t slab_bytes = 1 << 16;

    Hold(std::size_t messages, std::size_t bytes)
        : capacity_(messages),
          slot_count_(std::bit_ceil(std::max<std::size_t>(2 * messages, 1024))),
          slots_(std::make_unique_for_overwrite<Slot[]>(slot_count_)),
          slab_count_(slabs_for(messages, bytes)),
          arena_(std::make_unique_for_overwrite<std::uint8_t[]>(slab_count_ * slab_bytes)),
          references_(std::make_unique<std::uint32_t[]>(slab_count_)),
          free_(std::make_unique<std::uint32_t[]>(slab_count_)) {
        clear();
    }

    std::size_t room() const { return capacity_ - held_; }
    std::size_t held() const { return held_; }
    std::size_t slots() const { return slot_count_; }
    bool is_free(std::uint64_t sequence) const { return slot(sequence).receipt == free_slot; }

    // The messages lie back to back in one packet.
    bool store(std::uint64_t first, std::span<const Message> messages, const Receipt& receipt) {
        const std::uint8_t* const begin = messages.front().data - block_header;
        const auto bytes = static_cast<std::size_t>(messages.back().data + messages.back().length - begin);
        if (messages.size() > room()) return false;  // so they have a slot each
        for (std::size_t i = 0; i < messages.size(); ++i) {
            if (!is_free(first + i)) return false;
        }
        if (used_ + sizeof(Receipt) + bytes > slab_bytes && !next_slab()) return false;
        const std::size_t at = current_ * slab_bytes + used_;
        std::memcpy(&arena_[at], &receipt, sizeof receipt);
        std::memcpy(&arena_[at + sizeof receipt], begin, bytes);
        for (const Message& message : messages) {
            const auto offset = at + sizeof receipt + static_cast<std::size_t>(message.data - begin);
            slot(first++) = {static_cast<std::uint32_t>(offset), static_cast<std::uint32_t>(at)};
        }
        used_ += sizeof receipt + bytes;
        references_[current_] += static_cast<std::uint32_t>(messages.size());
        held_ += messages.size();
        return true;
    }

    Message message(std::uint64_t sequence) const {
        const std::uint8_t* const data = &arena_[slot(sequence).data];
        return {data, frame::load_be16(data - block_header)};
    }
    Receipt receipt(std::uint64_t sequence) const {
        Receipt receipt;
        std::memcpy(&receipt, &arena_[slot(sequence).receipt], sizeof receipt);
        return receipt;
    }

    // The number was delivered; its bytes stay readable until the next store.
    void release(std::uint64_t sequence) {
        const std::size_t slab = slot(sequence).receipt / slab_bytes;
        slot(sequence).receipt = free_slot;
        --held_;
        if (--references_[slab] != 0) return;
        if (slab == current_)
            used_ = 0;
        else
            free_[free_count_++] = static_cast<std::uint32_t>(slab);
    }

    void clear() {
        held_ = used_ = current_ = free_count_ = 0;
        std::fill_n(slots_.get(), slot_count_, Slot{0, free_slot});
        std::fill_n(references_.get(), slab_count_, 0);
        for (std::size_t i = slab_count_; i > 1; --i)
            free_[free_count_++] = static_cast<std::uint32_t>(i - 1);
    }

  private:
    static constexpr std::size_t block_header = 2;
    struct Slot {
        std::uint32_t data;  // offset of the message in the arena; its length lies before it, as on the wire
        std::uint32_t receipt;  // offset of its packet's receipt
    };

    static constexpr std::uint32_t free_slot =
        ~std::uint32_t{0};  // no receipt lies there: the arena is smaller
    Slot& slot(std::uint64_t sequence) { return slots_[sequence & (slot_count_ - 1)]; }
    const Slot& slot(std::uint64_t sequence) const { return slots_[sequence & (slot_count_ - 1)]; }

    static std::size_t slabs_for(std::size_t messages, std::size_t bytes) {
        constexpr std::size_t most = (std::size_t{1} << 32) / slab_bytes;  // offsets are 32 bits
        if (bytes == 0) bytes = std::max<std::size_t>(64 * messages, 1 << 20);
        return std::clamp<std::size_t>(bytes / slab_bytes, 2, most - 1);
    }

    bool next_slab() {
        if (free_count_ == 0) return false;
        current_ = free_[--free_count_];
        used_ = 0;
        return true;
    }

    std::size_t capacity_;
    std::size_t held_ = 0;
    std::size_t slot_count_;
    std::unique_ptr<Slot[]> slots_;
    std::size_t slab_count_;
    std::unique_ptr<std::uint8_t[]> arena_;
    std::unique_ptr<std::uint32_t[]> references_;  // messages held, by slab
    std::unique_ptr<std::uint32_t[]> free_;
    std::size_t free_count_ = 0;
    std::size_t current_ = 0;  // slab being filled
    std::size_t used_ = 0;     // bytes of it
};

}  // namespace fh::sequence
