// The reading end of the record ring: any number of readers, each with a position of its own, none of which
// the writer knows. A reader copies first and validates afterwards; what it hands out was whole. One that is
// overtaken ("lapped") rejoins at the newest checkpoint and counts, by schema, exactly the records that it
// missed. What no writer leaves behind (a damaged file, a foreign one) is a ChannelError, never a loop or a
// foreign byte read.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "../record/dbn.hpp"
#include "layout.hpp"
#include "mapping.hpp"
#include "words.hpp"

namespace fh::publish {

class RingReader {
  public:
    static constexpr std::size_t copy_bytes =
        65536;  // copied, validated and handed out at once: stays in the L2 cache

    // `memory`: a mapped ring file whose magic, version and capacity were checked.
    explicit RingReader(const std::byte* memory)
        : header_(reinterpret_cast<const RingHeader*>(memory)),
          checkpoints_(reinterpret_cast<const Checkpoint*>(memory + sizeof(RingHeader))),
          capacity_(header_->capacity),
          data_(memory + ring_data_offset(capacity_)),
          copy_(copy_bytes / sizeof(std::uint64_t)) {}

    bool available() const { return header_->tail.load(std::memory_order_acquire) != position_; }

    // Calls handler(const RecordHeader&, const std::byte* body) for each record, oldest first, up to about
    // max_bytes of ring. The pointers are valid during the call only. Returns the number of records.
    template <typename Handler>
    std::size_t poll(Handler&& handler, std::size_t max_bytes = copy_bytes) {
        std::size_t records = 0;
        for (std::size_t bytes = 0; bytes < max_bytes;) {
            const std::uint64_t length = copy(~std::uint64_t{0}, records == 0);
            if (length == 0) break;
            records += hand_out(length, handler);
            bytes += length;
        }
        return records;
    }

    // Skip what is in the ring: the next record is the next to be written. `passed` gets the last of what is
    // skipped: a reader of two rings needs to know where each of them stood.
    template <typename Handler>
    void skip_to_tail(Handler&& passed) {
        rejoin_newest();
        const std::uint64_t target = header_->tail.load(std::memory_order_acquire);
        while (position_ < target) {
            const std::uint64_t length = copy(target, true);
            if (length != 0) hand_out(length, passed);
        }
        lost_ = {};
    }
    void skip_to_tail() {
        skip_to_tail([](const RecordHeader&, const std::byte*) {});
    }

    const std::array<std::uint64_t, 8>& lost() const { return lost_; }  // by dbn::Schema, since the start
    const std::array<std::uint64_t, 8>& records() const { return records_; }  // passed so far: read or lost
    std::uint64_t position() const { return position_; }
    std::uint64_t lag() const { return header_->tail.load(std::memory_order_acquire) - position_; }  // bytes

  private:
    // A validated copy of what follows the position: its length in bytes, 0 when there is nothing. When
    // lapped: rejoins if it may, else 0, so that the loss is counted by the next poll, before what follows
    // it.
    std::uint64_t copy(std::uint64_t limit, bool may_rejoin) {
        for (unsigned attempt = 0; attempt < most_attempts; ++attempt) {
            const std::uint64_t whole = header_->tail.load(std::memory_order_acquire);
            if (whole < position_) damaged();
            const std::uint64_t tail = std::min(whole, limit);
            if (tail <= position_) return 0;
            const std::uint64_t offset = position_ & (capacity_ - 1);
            const std::uint64_t length =
                std::min({tail - position_, capacity_ - offset, std::uint64_t{copy_bytes}});
            load_words(copy_.data(), data_ + offset, length);
            if (still_valid(position_)) return length;
            if (!may_rejoin) return 0;
            rejoin_newest();
        }
        damaged();
    }

    // Behind a copy of words from `position` on: could the writer have been at them meanwhile?
    bool still_valid(std::uint64_t position) const {
        std::atomic_thread_fence(std::memory_order_acquire);
        return header_->tail_intent.load(std::memory_order_relaxed) <= position + capacity_;
    }

    template <typename Handler>
    std::size_t hand_out(std::uint64_t length, Handler& handler) {
        const auto* bytes = reinterpret_cast<const std::byte*>(copy_.data());
        const std::uint64_t begin = position_;
        std::size_t records = 0;
        for (std::uint64_t at = 0; at + sizeof(RecordHeader) <= length;) {
            RecordHeader header;
            std::memcpy(&header, bytes + at, sizeof header);
            if (header.schema == padding_schema) {
                position_ += capacity_ - (position_ & (capacity_ - 1));
                if (position_ >= header_->tail.load(std::memory_order_acquire)) damaged();
                break;
            }
            if (header.schema >= dbn::schema_sizes.size() ||
                header.length != sizeof header + dbn::schema_sizes[header.schema])
                damaged();
            if (at + header.length > length) break;  // the rest of it comes with the next copy
            position_ += header.length;  // before the call: a handler that throws has had its record
            ++records_[header.schema];
            ++records;
            handler(static_cast<const RecordHeader&>(header), bytes + at + sizeof header);
            at += header.length;
        }
        if (position_ == begin) damaged();  // a record that ends above the tail
        return records;
    }

    // A writer would have to come round once in every one of so many looks.
    static constexpr unsigned most_attempts = 1u << 20;

    [[noreturn]] void damaged() const {
        throw ChannelError("ring: damaged at position " + std::to_string(position_));
    }

    void rejoin_newest() {
        for (unsigned attempt = 0; !rejoin(); ++attempt)
            if (attempt == most_attempts) damaged();
    }

    // Move to the newest checkpoint; false: lapped even while reading it, try again.
    bool rejoin() {
        const std::uint64_t tail = header_->tail.load(std::memory_order_acquire);
        if (tail == 0) return true;
        const std::uint64_t step = (tail - 1) / ring_step;
        Checkpoint checkpoint;
        load_words(&checkpoint, &checkpoints_[step % (capacity_ / ring_step)], sizeof checkpoint);
        if (!still_valid(step * ring_step)) return false;
        if (checkpoint.step != step) damaged();
        if (checkpoint.position <= position_) return true;
        for (std::size_t i = 0; i < records_.size(); ++i) lost_[i] += checkpoint.records[i] - records_[i];
        records_ = checkpoint.records;
        position_ = checkpoint.position;
        return true;
    }

    const RingHeader* header_;
    const Checkpoint* checkpoints_;
    std::uint64_t capacity_;
    const std::byte* data_;
    std::uint64_t position_ = 0;
    std::array<std::uint64_t, 8> records_{};
    std::array<std::uint64_t, 8> lost_{};
    std::vector<std::uint64_t> copy_;
};

}  // namespace fh::publish
