// Layout of a channel's three files in RUNTIME_DIR/NAME/: `channel` (state, counters, gap history,
// latencies), `ring` (records), `books` (one block an instrument). One writer, any number of readers that map
// read-only. All integers are in host order. Includes are relative here and in all that this header needs: it
// is installed for C++ consumers.
#pragma once

#include <pthread.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "../event.hpp"
#include "../latency/hops.hpp"
#include "counters.hpp"

namespace fh {

inline constexpr std::size_t cache_line = 64;
inline constexpr std::uint32_t layout_version = 6;
inline constexpr std::uint64_t channel_magic = 0x314e4e4148434846;  // "FHCHANN1"
inline constexpr std::uint64_t ring_magic = 0x31474e4952434846;     // "FHCRING1"
inline constexpr std::uint64_t books_magic = 0x314b4f4f42434846;    // "FHCBOOK1"

// ---- channel

// One past hole, for `gaps CHANNEL`.
struct GapRecord {
    std::int64_t opened_ns;  // UTC
    std::int64_t closed_ns;  // UTC; 0 while open
    std::uint64_t first;     // inclusive
    std::uint64_t last;      // inclusive
    std::uint64_t recovered_line;
    std::uint64_t recovered_rewind;
    std::uint64_t unrecovered;
    std::uint64_t requests;
};
inline constexpr std::size_t gap_history = 1024;  // the newest so many are kept

// A record under its own sequence lock: odd while it is written. A writer that died inside leaves one entry
// unreadable, not all.
struct GapSlot {
    std::atomic<std::uint64_t> version;
    GapRecord record;
};

// What `stat` shows beside the state.
struct CounterSlot {
    char session[16];             // MoldUDP64 session, NUL padded
    std::int64_t ts_ns;           // UTC, of the copy
    std::uint64_t next_sequence;  // at the moment of the copy: adds up with the counters
    Counters counters;
};

// The state word: the low 8 bits are the FeedState, the rest counts changes, so that equal words mean
// "nothing happened".
constexpr FeedState word_state(std::uint64_t word) { return static_cast<FeedState>(word & 0xff); }

struct alignas(4096) ChannelPage {
    // line 0: written once
    std::atomic<std::uint64_t> magic;  // last field to be written at start-up
    std::uint32_t version;
    std::uint32_t line_count;
    std::uint64_t epoch;  // UTC ns of the daemon's start; new at each start
    std::uint32_t daemon_pid;
    std::uint32_t schema_mask;  // dbn::schema_bit of what is published
    std::uint32_t depth;
    std::uint32_t publisher_id;
    std::int64_t midnight_ns;   // UTC ns of 00:00 exchange time of the trading day
    std::uint32_t trading_day;  // yyyymmdd
    std::uint32_t reserved0;

    // line 1: what a consumer looks at before it acts
    alignas(cache_line)
        std::atomic<std::uint64_t> state;  // word_state(); stored before any record that follows the change
    std::atomic<std::uint64_t> next_sequence;
    std::atomic<std::int64_t>
        heartbeat_ns;  // CLOCK_MONOTONIC, by the receive thread, at least every millisecond
    std::atomic<std::uint64_t> progress;  // grows with each turn of the receive loop

    // line 2: a robust mutex that the receive thread holds while it lives. The kernel sets FUTEX_OWNER_DIED
    // in its first word when the thread dies by whatever means, before it tears the memory down: a reader
    // sees death with one load.
    alignas(cache_line) pthread_mutex_t owner;

    // written once
    alignas(cache_line) char channel[64];
    char dataset[16];
    char line_names[max_lines][16];
    char server_names[max_servers][32];

    // Version v means: slot v % 2 is whole, the other may be under the pen. A writer that dies leaves the
    // last copy readable.
    alignas(cache_line) std::atomic<std::uint64_t> counters_version;
    CounterSlot counters[2];

    alignas(cache_line) std::atomic<std::uint64_t> gap_count;  // holes ever; entry i lies at i % gap_history
    GapSlot gaps[gap_history];

    latency::LatencyPage latency;
};

// ---- ring

// Broadcast, lossy; after Agrona's BroadcastTransmitter. Positions count bytes and never wrap; the byte at
// position p lies at p % capacity of the data. Records are 8-byte aligned and contiguous; a padding record
// fills the end of the buffer. The file: RingHeader, then capacity / ring_step Checkpoints, then (page
// aligned) the data.
struct alignas(4096) RingHeader {
    std::atomic<std::uint64_t> magic;
    std::uint32_t version;
    std::uint32_t reserved;
    std::uint64_t capacity;  // bytes, a power of two, at least 4 * ring_step
    std::uint64_t epoch;     // as in the channel: proves that the two files belong together
    // On lines of their own: every commit touches `tail`, every ring_step bytes `tail_intent`.
    alignas(cache_line) std::atomic<std::uint64_t> tail_intent;  // the writer may be writing below this
    alignas(cache_line) std::atomic<std::uint64_t> tail;         // all below this is whole
};

// The writer announces its intent in steps, so that most records cost no second shared store.
inline constexpr std::uint64_t ring_step = 16384;  // bytes

// The first record that ends in a step: where it starts, and how many records of each schema lie before it. A
// reader that was lapped rejoins here and knows exactly how many records it lost. Valid as long as the step's
// own data is.
struct alignas(128) Checkpoint {
    std::uint64_t step;  // position / ring_step
    std::uint64_t position;
    std::array<std::uint64_t, 8> records;  // by dbn::Schema
};
static_assert(sizeof(Checkpoint) == 128);

constexpr std::size_t ring_data_offset(std::uint64_t capacity) {
    const std::size_t end = sizeof(RingHeader) + capacity / ring_step * sizeof(Checkpoint);
    return (end + 4095) / 4096 * 4096;
}
constexpr bool is_ring_capacity(std::uint64_t bytes) {
    return bytes >= 4 * ring_step && (bytes & (bytes - 1)) == 0;
}
constexpr std::size_t ring_file_size(std::uint64_t capacity) { return ring_data_offset(capacity) + capacity; }

struct RecordHeader {
    std::uint16_t length;    // bytes with this header, a multiple of 8
    std::uint8_t schema;     // dbn::Schema; 255 = padding
    std::uint8_t state;      // FeedState at the time of publishing
    std::uint32_t sequence;  // low 32 bits of the feed's sequence number; DBN bodies follow
};
static_assert(sizeof(RecordHeader) == 8);
inline constexpr std::uint8_t padding_schema = 255;

}  // namespace fh
