// Writes the packets of a broadcast into a message store (recovery/store.py, version 1) that a re-request
// server reads meanwhile. Only what a live sender needs: packets in order, each number once.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>

#include "frame/byte_order.hpp"

namespace fh::simulate {

class StoreWriter {
  public:
    // `memory`: the mapped store, made and named by its owner; must outlive the writer.
    explicit StoreWriter(std::span<std::uint8_t> memory)
        : header_(reinterpret_cast<std::uint64_t*>(memory.data())) {
        if (memory.size() < header_bytes || header_[word_magic] != magic)
            throw std::invalid_argument("not a message store");
        messages_ = header_[word_messages];
        bytes_ = header_[word_bytes];
        if (messages_ == 0 || memory.size() < header_bytes + 9 * messages_ + bytes_)
            throw std::invalid_argument("store: too short");
        index_ = header_ + header_bytes / 8;
        joined_ = memory.data() + header_bytes + 8 * messages_;
        data_ = joined_ + messages_;
    }

    // The blocks of one packet, numbered from `first`, behind all that were stored before.
    void append(std::uint64_t first, std::uint16_t count, std::span<const std::uint8_t> blocks) {
        std::uint64_t position = header_[word_written];
        bool joined = first == tail_;
        const std::uint64_t room = bytes_ - position % bytes_;
        if (room < blocks.size()) {  // never across the ring's end
            position += room;
            joined = false;
        }
        publish(word_intent, position + blocks.size());
        std::memcpy(data_ + position % bytes_, blocks.data(), blocks.size());
        std::uint64_t offset = 0;
        for (std::uint64_t sequence = first; sequence < first + count; ++sequence) {
            const std::uint64_t slot = sequence % messages_;
            joined_[slot] = joined;
            index_[slot] = (sequence / messages_) << 48 | (position + offset);
            offset += 2u + frame::load_be16(&blocks[offset]);
            joined = true;
        }
        publish(word_written, position + blocks.size());
        if (header_[word_first] == 0) publish(word_first, first);
        publish(word_next, first + count);
        publish(word_held, header_[word_held] + count);
        tail_ = first + count;
    }

  private:
    static constexpr std::uint64_t magic = 0x31'45'52'4F'54'53'48'46;  // "FHSTORE1"
    static constexpr std::size_t header_bytes = 4096;
    static constexpr std::size_t word_magic = 0, word_messages = 1, word_bytes = 2, word_first = 6,
                                 word_held = 7, word_intent = 16, word_written = 24, word_next = 32;

    void publish(std::size_t word, std::uint64_t value) {
        std::atomic_ref(header_[word]).store(value, std::memory_order_release);
    }

    std::uint64_t* header_;
    std::uint64_t* index_;
    std::uint8_t* joined_;
    std::uint8_t* data_;
    std::uint64_t messages_, bytes_;
    std::uint64_t tail_ = 0;
};

}  // namespace fh::simulate
