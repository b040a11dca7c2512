// The one writer's view of the `books` file. Give it zeroed memory of books_file_size bytes (a sparse file:
// what is not touched takes no room).
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "book/memory.hpp"
#include "book/table.hpp"

namespace fh::book {

class TableWriter {
  public:
    explicit TableWriter(std::byte* memory)
        : header_(*reinterpret_cast<TableHeader*>(memory)),
          directory_(reinterpret_cast<DirectoryEntry*>(memory + directory_offset)),
          blocks_(reinterpret_cast<Block*>(memory + blocks_offset)) {
        header_.version = layout_version;
        header_.block_size = sizeof(Block);
        header_.instruments = table_instruments;
        header_.levels = view_levels;
        header_.directory_offset = directory_offset;
        header_.blocks_offset = blocks_offset;
        header_.magic.store(books_magic, std::memory_order_release);
    }

    Block& block(std::uint16_t instrument) const { return blocks_[instrument]; }

    // Entries in the order in which symbols became known.
    std::uint32_t symbols() const { return header_.directory_count.load(std::memory_order_relaxed); }
    const DirectoryEntry& entry(std::uint32_t i) const { return directory_[i]; }

    // function(instrument id) for each that has a symbol, rising. The blocks of the others are never touched:
    // a sparse file.
    template <class Function>
    void for_each_named(Function&& function) const {
        for (std::size_t i = 0; i < named_.size(); ++i) {
            for (std::uint64_t bits = named_[i]; bits != 0; bits &= bits - 1) {
                function(static_cast<std::uint16_t>(i * 64 + static_cast<unsigned>(std::countr_zero(bits))));
            }
        }
    }

    void set_symbol(std::uint16_t instrument, std::uint64_t symbol) {
        const std::uint32_t count = symbols();
        Block& b = block(instrument);
        const bool named = (named_[instrument / 64] >> (instrument % 64) & 1) != 0;
        const std::uint32_t i = named ? entry_of_[instrument] : count;
        entry_of_[instrument] = i;
        if (named && directory_[i].symbol == symbol) return set_flags(b, b.flags | block_known);
        if (ids_may_move_) unname_others(instrument, symbol, count);
        store(directory_[i].instrument_id, std::uint32_t{instrument});
        store(directory_[i].symbol, symbol);
        set_flags(b, b.flags | block_known);
        named_[instrument / 64] |= std::uint64_t{1} << (instrument % 64);
        if (i == count) header_.directory_count.store(count + 1, std::memory_order_release);
    }

    // Instrument ids are of a session: in the next one a symbol may have another. The names stay until they
    // are told anew.
    void start_session() { ids_may_move_ = true; }
    bool ids_may_move() const { return ids_may_move_; }

    // The book in `from`, another table's block, becomes this block's; who it is and who may see it stay.
    // Between begin and end.
    static void copy_book(Block& to, Block& from) {
        constexpr unsigned identity = block_known | block_published;
        for (unsigned s = 0; s < 2; ++s) {
            const auto* words = reinterpret_cast<const std::uint64_t*>(&from.sides[s]);
            auto* out = reinterpret_cast<std::uint64_t*>(&to.sides[s]);
            for (std::size_t i = 0; i < sizeof(NodeLevels) / 8; ++i) store(out[i], words[i]);
            for (unsigned i = 0; i < 2; ++i) store(to.order[s].words[i], from.order[s].words[i]);
            store(to.used[s], from.used[s]);
        }
        if (from.trading_status != 0) store(to.trading_status, from.trading_status);
        set_flags(to, (to.flags & identity) | (from.flags & ~identity));
    }

    static void set_flags(Block& b, unsigned flags) { store(b.flags, static_cast<std::uint8_t>(flags)); }

    // Between begin and end readers wait. A writer that dies in between leaves the version odd: readers tell.
    static void begin(Block& b) {
        store(b.version, b.version + 1);
        std::atomic_thread_fence(std::memory_order_release);
    }
    static void end(Block& b, std::uint64_t sequence, std::int64_t ts_event_ns) {
        store(b.sequence, sequence);
        store(b.ts_event_ns, ts_event_ns);
        __atomic_store_n(&b.version, b.version + 1, __ATOMIC_RELEASE);
    }

  private:
    // A symbol leads to one instrument: whoever asks by name must not get the book of a former one.
    void unname_others(std::uint16_t instrument, std::uint64_t symbol, std::uint32_t count) {
        for (std::uint32_t i = 0; i < count; ++i) {
            if (directory_[i].symbol != symbol || directory_[i].instrument_id == instrument) continue;
            store(directory_[i].symbol, std::uint64_t{0});
            Block& other = block(static_cast<std::uint16_t>(directory_[i].instrument_id));
            set_flags(other, other.flags & ~unsigned{block_known});
        }
    }

    TableHeader& header_;
    DirectoryEntry* directory_;
    Block* blocks_;
    bool ids_may_move_ = false;
    std::array<std::uint64_t, table_instruments / 64> named_{};          // a bit an instrument id
    Reserved<std::uint32_t> entry_of_{table_instruments, Pages::small};  // in the directory, by instrument id
};

}  // namespace fh::book
