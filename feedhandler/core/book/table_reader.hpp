// Reading a book out of the mapped `books` file, from any process, while the receive thread changes it.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

#include "order.hpp"
#include "table.hpp"

namespace fh {

struct BookLevel {
    std::int64_t price;  // 1e-9
    std::uint64_t size;  // shares
    std::uint32_t orders;
};

struct BookView {
    std::uint64_t sequence = 0;  // of the last message that changed the book
    std::int64_t ts_event_ns = 0;
    std::uint32_t bid_count = 0;
    std::uint32_t ask_count = 0;
    std::array<BookLevel, book::view_levels> bids{};  // best first
    std::array<BookLevel, book::view_levels> asks{};
    char trading_status = 0;  // exchange's letter; 0 = not told yet
    bool incomplete = false;  // the handler ran out of room for this book: do not trust it
};

enum class ReadResult {
    ok,
    no_such_instrument,
    torn,  // the writer died or stands still inside a change
};

namespace detail {

// Word by word with atomic loads: the writer may be at it. Returns whether the copy is whole.
inline bool copy_block(const book::Block& from, book::Block& to) {
    constexpr std::size_t words = sizeof(book::Block) / sizeof(std::uint64_t);
    std::uint64_t copy[words];
    const auto* source = reinterpret_cast<const std::uint64_t*>(&from);
    copy[0] = __atomic_load_n(source, __ATOMIC_ACQUIRE);
    if ((copy[0] & 1) != 0) return false;
    for (std::size_t i = 1; i < words; ++i) copy[i] = __atomic_load_n(source + i, __ATOMIC_RELAXED);
    std::atomic_thread_fence(std::memory_order_acquire);
    if (__atomic_load_n(source, __ATOMIC_RELAXED) != copy[0]) return false;
    std::memcpy(static_cast<void*>(&to), copy, sizeof(to));
    return true;
}

inline std::uint32_t copy_side(book::Block& block, book::Side side,
                               std::array<BookLevel, book::view_levels>& out) {
    const book::Node node = block.side(static_cast<unsigned>(side));
    const unsigned count = std::min(node.size(), book::view_levels);
    for (unsigned rank = 0; rank < count; ++rank) {
        const book::Level& level = node.level_at(rank);
        out[rank] = {std::int64_t{book::key_price(side, node.key_at(rank))} * 100'000, level.size,
                     level.orders};
    }
    return count;
}

}  // namespace detail

// `books_file`: the start of the mapping, at least books_file_size bytes. An instrument that was never named
// has no book.
inline ReadResult read_book(const std::byte* books_file, std::uint32_t instrument_id, BookView& out) {
    if (instrument_id >= book::table_instruments) return ReadResult::no_such_instrument;
    const auto& from = reinterpret_cast<const book::Block*>(books_file + book::blocks_offset)[instrument_id];
    book::Block block;
    for (unsigned tries = 0; tries < 65'536; ++tries) {
        if (!detail::copy_block(from, block)) {
            __builtin_ia32_pause();
            continue;
        }
        if ((block.flags & book::block_known) == 0) return ReadResult::no_such_instrument;
        out.sequence = block.sequence;
        out.ts_event_ns = block.ts_event_ns;
        out.bid_count = detail::copy_side(block, book::Side::bid, out.bids);
        out.ask_count = detail::copy_side(block, book::Side::ask, out.asks);
        out.trading_status = block.trading_status;
        out.incomplete = (block.flags & book::block_incomplete) != 0;
        return ReadResult::ok;
    }
    return ReadResult::torn;
}

// Instrument id of a symbol ("AAPL", no padding). Walks the directory: ask once and keep the answer.
inline std::optional<std::uint32_t> find_instrument(const std::byte* books_file, std::string_view symbol) {
    char padded[8];
    std::memset(padded, ' ', sizeof(padded));
    if (symbol.empty() || symbol.size() > sizeof(padded)) return std::nullopt;
    std::memcpy(padded, symbol.data(), symbol.size());
    std::uint64_t wanted;
    std::memcpy(&wanted, padded, sizeof(wanted));
    const auto& header = *reinterpret_cast<const book::TableHeader*>(books_file);
    const auto* entries = reinterpret_cast<const book::DirectoryEntry*>(books_file + book::directory_offset);
    const std::uint32_t count =
        std::min(header.directory_count.load(std::memory_order_acquire), book::table_instruments);
    for (std::uint32_t i = 0; i < count; ++i) {
        if (__atomic_load_n(&entries[i].symbol, __ATOMIC_RELAXED) == wanted) return entries[i].instrument_id;
    }
    return std::nullopt;
}

}  // namespace fh
