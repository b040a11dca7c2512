// What the journal process tells of itself: file `journal` in the channel's folder, made by the daemon,
// written by the journal. It outlives that process, so that its successor goes on with the packet after the
// last written one.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <string>

#include "publish/layout.hpp"
#include "publish/words.hpp"

namespace fh::journal {

inline constexpr std::uint64_t journal_magic = 0x314e524a43434846;  // "FHCCJRN1"

enum class JournalState : std::uint32_t { none = 0, writing = 1, stopped = 2, failed = 3 };
inline constexpr const char* journal_state_names[] = {"none", "writing", "stopped", "failed"};

struct JournalCounters {
    std::uint64_t position = 0;      // in the packet ring: all before it is written, or lost
    std::uint64_t passed = 0;        // packets before it
    std::uint64_t packets = 0;       // written
    std::uint64_t bytes = 0;         // written, as in the files before compression
    std::uint64_t lost_packets = 0;  // overwritten in the ring before they were read
    std::uint64_t segments = 0;      // opened
};
static_assert(sizeof(JournalCounters) == 48);

struct alignas(4096) JournalPage {
    std::atomic<std::uint64_t> magic;
    std::uint64_t epoch;               // of the channel
    std::atomic<std::uint32_t> state;  // JournalState
    std::atomic<std::uint32_t> pid;
    std::atomic<std::uint64_t> failures;  // times that it had to stop, disk full among them
    alignas(cache_line) std::atomic<std::uint64_t> version;  // slot version % 2 is whole
    JournalCounters slots[2];
};

inline void put(JournalPage& page, const JournalCounters& counters) {
    const std::uint64_t next = page.version.load(std::memory_order_relaxed) + 1;
    std::atomic_thread_fence(std::memory_order_release);
    publish::store_words(&page.slots[next % 2], &counters, sizeof counters);
    page.version.store(next, std::memory_order_release);
}

// A copy that was whole, unless the writer went round twice meanwhile: then again.
inline JournalCounters get(const JournalPage& page) {
    for (;;) {
        JournalCounters out;
        const std::uint64_t version = page.version.load(std::memory_order_acquire);
        publish::load_words(&out, &page.slots[version % 2], sizeof out);
        std::atomic_thread_fence(std::memory_order_acquire);
        if (page.version.load(std::memory_order_relaxed) == version) return out;
    }
}

}  // namespace fh::journal
