// Names of instruments, out of the books file's directory. Entries stay where they are; the name in one may
// change (a new day).
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "../book/table.hpp"

namespace fh::publish {

// Eight bytes, space padded, as they lie in memory.
inline std::uint64_t pack_symbol(std::string_view name) {
    char padded[8] = {' ', ' ', ' ', ' ', ' ', ' ', ' ', ' '};
    name.copy(padded, sizeof padded);
    std::uint64_t symbol;
    std::memcpy(&symbol, padded, sizeof symbol);
    return symbol;
}

// As text: what is not printable ASCII, which the feed may carry and text may not, is shown as '?'.
inline std::string unpack_symbol(std::uint64_t symbol) {
    std::string name(reinterpret_cast<const char*>(&symbol), sizeof symbol);
    name.erase(name.find_last_not_of(' ') + 1);
    std::replace_if(
        name.begin(), name.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
    return name;
}

class SymbolDirectory {
  public:
    SymbolDirectory() = default;  // nothing has a name

    // `books`: the mapped books file with its table.
    explicit SymbolDirectory(const std::byte* books) : books_(books) {}

    bool has_books() const { return books_ != nullptr; }

    // 0: not named (yet).
    std::uint64_t symbol(std::uint32_t instrument_id) {
        if (instrument_id >= index_.size() || index_[instrument_id] == 0) {
            if (!read_new_entries() || instrument_id >= index_.size() || index_[instrument_id] == 0) return 0;
        }
        return __atomic_load_n(&entries()[index_[instrument_id] - 1].symbol, __ATOMIC_RELAXED);
    }

    // (instrument id, symbol) in the order in which they became known.
    template <typename Visitor>
    void each(Visitor&& visit) {
        read_new_entries();
        for (std::uint32_t i = 0; i < known_; ++i)
            visit(entries()[i].instrument_id, __atomic_load_n(&entries()[i].symbol, __ATOMIC_RELAXED));
    }

  private:
    const book::DirectoryEntry* entries() const {
        return reinterpret_cast<const book::DirectoryEntry*>(books_ + book::directory_offset);
    }

    bool read_new_entries() {
        if (books_ == nullptr) return false;
        const auto* header = reinterpret_cast<const book::TableHeader*>(books_);
        const std::uint32_t count =
            std::min(header->directory_count.load(std::memory_order_acquire), book::table_instruments);
        if (count <= known_) return false;
        for (; known_ < count; ++known_) {
            const std::uint32_t id = entries()[known_].instrument_id;
            if (id >= book::table_instruments) continue;  // no writer's
            if (id >= index_.size()) index_.resize(id + 1);
            index_[id] = known_ + 1;
        }
        return true;
    }

    const std::byte* books_ = nullptr;
    std::vector<std::uint32_t> index_;  // by instrument id: entry + 1
    std::uint32_t known_ = 0;
};

// Which records are wanted: those of some symbols, or all. Follows the directory as symbols become known.
class SymbolFilter {
  public:
    explicit SymbolFilter(const std::vector<std::string>& names) {
        for (const std::string& name : names) wanted_.push_back(pack_symbol(name));
    }

    bool operator()(SymbolDirectory& directory, std::uint32_t instrument_id) {
        if (wanted_.empty()) return true;
        if (instrument_id >= book::table_instruments) return false;
        const std::uint64_t symbol = directory.symbol(instrument_id);
        if (instrument_id >= answers_.size()) answers_.resize(instrument_id + 1);
        Answer& answer = answers_[instrument_id];
        if (answer.symbol != symbol)
            answer = {symbol, std::find(wanted_.begin(), wanted_.end(), symbol) != wanted_.end()};
        return answer.wanted;
    }

  private:
    struct Answer {
        std::uint64_t symbol = 0;
        bool wanted = false;
    };
    std::vector<std::uint64_t> wanted_;
    std::vector<Answer> answers_;  // by instrument id, for the symbol it had then
};

}  // namespace fh::publish
