// The writing end of the record ring: one thread, no system call, no lock; never waits for a reader.
//
// Order of the stores, and why a reader is never fooled: (1) tail_intent, relaxed; (2) release fence; (3)
// record words; (4) tail, release. A reader that copies words of (3) and then, behind an acquire fence, loads
// tail_intent, sees at least the intent that was announced before them, so it knows that its copy may be
// torn. A reader that loads tail (acquire) sees all records below it. The header word is stored atomically.
// The body is filled by the caller with plain stores: the one formal race of the protocol, benign because
// every copy is validated; the fences keep compiler and CPU from moving those stores out of (2)..(4).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>

#include "../event.hpp"
#include "../record/dbn.hpp"
#include "layout.hpp"
#include "words.hpp"

namespace fh::publish {

class RingWriter {
  public:
    // `memory`: ring_file_size(capacity) zero bytes, page aligned.
    RingWriter(std::byte* memory, std::uint64_t capacity, std::uint64_t epoch, std::uint32_t schema_mask)
        : header_(new (memory) RingHeader{}),
          checkpoints_(reinterpret_cast<Checkpoint*>(memory + sizeof(RingHeader))),
          data_(memory + ring_data_offset(capacity)),
          capacity_(capacity),
          schema_mask_(schema_mask) {
        header_->version = layout_version;
        header_->capacity = capacity;
        header_->epoch = epoch;
        header_->magic.store(ring_magic, std::memory_order_release);
    }

    std::uint32_t schema_mask() const { return schema_mask_; }

    // Space for the body of one record, 8-byte aligned, dbn::schema_sizes bytes; invisible until commit().
    void* claim(dbn::Schema schema, std::uint32_t sequence_low) {
        const auto index = static_cast<std::size_t>(schema);
        const std::uint32_t length = sizeof(RecordHeader) + dbn::schema_sizes[index];
        if (position_ + length > intent_) [[unlikely]]
            claim_slowly(length, sequence_low);
        std::byte* record = data_ + (position_ & (capacity_ - 1));
        store_word(record, length | index << 16 | static_cast<std::uint64_t>(state_) << 24 |
                               static_cast<std::uint64_t>(sequence_low) << 32);
        // A later record's lines: the buffer is larger than any cache, and a store that misses holds up those
        // behind it.
        __builtin_prefetch(record + prefetch_bytes, 1);
        __builtin_prefetch(record + prefetch_bytes + cache_line, 1);
        position_ += length;
        ++records_[index];
        return record + sizeof(RecordHeader);
    }

    // Makes all that was claimed visible. One store: call it per message, or per packet when the reader's
    // latency matters less.
    void commit() { header_->tail.store(position_, std::memory_order_release); }

    void publish(const Event& event, std::uint32_t sequence_low) {
        store_words(claim(dbn::Schema::event, sequence_low), &event, sizeof event);
        commit();
    }

    // Stamped into the records from here on.
    void set_state(FeedState state) { state_ = state; }

    // Calls seen(context) when the first record of message `sequence_low` is claimed: its book is whole then.
    // For who measures: costs nothing while nobody watches, and other claims a call while somebody does.
    using Seen = void (*)(void* context);
    void watch(std::uint32_t sequence_low, Seen seen, void* context) {
        watch_ = {seen, context, intent_, sequence_low, true};
        intent_ = 0;  // all claims take the slow way
    }
    // Was there such a record?
    bool unwatch() {
        intent_ = watch_.intent;
        watch_.on = false;
        return watch_.seen == nullptr;
    }

    const std::array<std::uint64_t, 8>& records() const {
        return records_;
    }  // claimed so far, by dbn::Schema
    std::uint64_t position() const { return position_; }

  private:
    static constexpr std::size_t prefetch_bytes = 512;

    struct Watch {
        Seen seen = nullptr;  // nullptr: it was called
        void* context = nullptr;
        std::uint64_t intent = 0;
        std::uint32_t sequence_low = 0;
        bool on = false;
    };

    [[gnu::noinline]] void claim_slowly(std::uint32_t length, std::uint32_t sequence_low) {
        if (!watch_.on) return announce(length);
        if (sequence_low == watch_.sequence_low && watch_.seen != nullptr)
            std::exchange(watch_.seen, nullptr)(watch_.context);
        intent_ = watch_.intent;
        if (position_ + length > intent_) announce(length);
        watch_.intent = std::exchange(intent_, 0);
    }

    // Once in ring_step bytes: move the intent, fill the end of the buffer if the record does not fit, leave
    // a checkpoint. ring_step divides the capacity, so a record that would cross the end always comes through
    // here.
    void announce(std::uint32_t length) {
        const std::uint64_t offset = position_ & (capacity_ - 1);
        const bool wrap = offset + length > capacity_;
        const std::uint64_t start = wrap ? position_ - offset + capacity_ : position_;
        const std::uint64_t step = (start + length - 1) / ring_step;
        intent_ = (step + 1) * ring_step;
        header_->tail_intent.store(intent_, std::memory_order_relaxed);
        std::atomic_thread_fence(std::memory_order_release);
        if (wrap) store_word(data_ + offset, static_cast<std::uint64_t>(padding_schema) << 16);
        position_ = start;
        const Checkpoint checkpoint{step, start, records_};
        store_words(&checkpoints_[step % (capacity_ / ring_step)], &checkpoint, sizeof checkpoint);
    }

    RingHeader* header_;
    Checkpoint* checkpoints_;
    std::byte* data_;
    std::uint64_t capacity_;
    std::uint64_t position_ = 0;
    std::uint64_t intent_ = 0;
    std::array<std::uint64_t, 8> records_{};
    std::uint32_t schema_mask_;
    FeedState state_ = FeedState::starting;
    Watch watch_;
};

}  // namespace fh::publish
