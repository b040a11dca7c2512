// Events from the receive thread to the one thread that logs them: never waits, counts what it had no room
// for.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <optional>

#include "event.hpp"

namespace fh::receive {

class EventQueue {
  public:
    static constexpr std::uint64_t capacity = 4096;

    // Receive thread.
    void push(const Event& event) {
        const std::uint64_t head = head_.load(std::memory_order_relaxed);
        if (head - tail_.load(std::memory_order_acquire) == capacity) {
            lost_.store(lost_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
            return;
        }
        events_[head % capacity] = event;
        head_.store(head + 1, std::memory_order_release);
    }

    // The other thread.
    std::optional<Event> pop() {
        const std::uint64_t tail = tail_.load(std::memory_order_relaxed);
        if (tail == head_.load(std::memory_order_acquire)) return std::nullopt;
        const Event event = events_[tail % capacity];
        tail_.store(tail + 1, std::memory_order_release);
        return event;
    }
    std::uint64_t lost() const { return lost_.load(std::memory_order_relaxed); }

  private:
    alignas(64) std::atomic<std::uint64_t> head_{0};  // each on a line of its own: the threads write one each
    std::atomic<std::uint64_t> lost_{0};
    alignas(64) std::atomic<std::uint64_t> tail_{0};
    std::array<Event, capacity> events_{};
};

}  // namespace fh::receive
