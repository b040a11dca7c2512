// Layout of the shared `books` file: a header, a directory of (instrument id, symbol), and one cache-line
// aligned block for each instrument id. A block holds the best levels of the book itself, not a copy, under a
// sequence lock: the version is odd while the receive thread changes it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "../publish/layout.hpp"
#include "levels.hpp"

namespace fh::book {

inline constexpr std::uint32_t table_instruments = 65536;
inline constexpr unsigned view_levels = 10;
// Kept in the block while the side has so many; the node's other places save moving levels back and forth.
static_assert(view_levels <= node_levels);

enum BlockFlag : std::uint8_t {
    block_known = 1,       // has a symbol
    block_published = 2,   // its records are wanted
    block_touched = 4,     // has had an order since the books were last cleared
    block_incomplete = 8,  // an order was refused for want of memory: the book is not to be trusted
    block_deep_bid = 16,   // more levels than the block holds
    block_deep_ask = block_deep_bid << 1,
};

struct alignas(cache_line) Block {
    std::uint64_t version;   // sequence lock
    std::uint64_t sequence;  // of the last message that changed the book
    std::int64_t ts_event_ns;
    std::uint16_t used[2];  // by Side, as the rest
    char trading_status;    // as the exchange sends it (H halted, P paused, Q quotation only, T trading); 0 =
                            // not told yet
    std::uint8_t flags;     // BlockFlag
    std::uint8_t reserved[2];
    Permutation order[2];
    NodeLevels sides[2];

    Node side(unsigned s) { return {sides[s], order[s], used[s]}; }
};
static_assert(sizeof(Block) == 704 && offsetof(Block, sides) == 64);

struct DirectoryEntry {
    std::uint64_t symbol;  // eight bytes, space padded
    std::uint32_t instrument_id;
    std::uint32_t reserved;
};
static_assert(sizeof(DirectoryEntry) == 16);

struct alignas(4096) TableHeader {
    std::atomic<std::uint64_t> magic;  // last field to be written
    std::uint32_t version;
    std::uint32_t block_size;   // bytes
    std::uint32_t instruments;  // blocks
    std::uint32_t levels;       // that a view shows
    std::uint64_t directory_offset;
    std::uint64_t blocks_offset;
    alignas(cache_line)
        std::atomic<std::uint32_t> directory_count;  // entries; grows only, an entry's symbol may change
};

inline constexpr std::uint64_t directory_offset = sizeof(TableHeader);
inline constexpr std::uint64_t blocks_offset = directory_offset + table_instruments * sizeof(DirectoryEntry);
inline constexpr std::uint64_t books_file_size = blocks_offset + table_instruments * sizeof(Block);

}  // namespace fh::book
