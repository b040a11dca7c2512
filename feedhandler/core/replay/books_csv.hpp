// Every level of every book as CSV lines: symbols in byte order, bids by falling price, then asks by rising
// price.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "book/book_set.hpp"

namespace fh::replay {

struct NamedInstrument {
    std::string symbol;  // blanks around it cut
    std::uint16_t instrument_id;
    auto operator<=>(const NamedInstrument&) const = default;
};

inline std::vector<NamedInstrument> named_instruments(const book::BookSet& books) {
    std::vector<NamedInstrument> out;
    for (std::uint32_t i = 0; i < books.table().symbols(); ++i) {
        const auto& entry = books.table().entry(i);
        if (entry.symbol == 0) continue;  // its name went to another instrument
        std::string_view symbol(reinterpret_cast<const char*>(&entry.symbol), sizeof entry.symbol);
        while (!symbol.empty() && (symbol.back() == ' ' || symbol.back() == '\0')) symbol.remove_suffix(1);
        while (!symbol.empty() && symbol.front() == ' ') symbol.remove_prefix(1);
        out.push_back({std::string(symbol), static_cast<std::uint16_t>(entry.instrument_id)});
    }
    std::sort(out.begin(), out.end());
    return out;
}

inline void append_number(std::string& out, std::uint64_t value) {
    char digits[20];
    const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
    out.append(digits, end);
}

// `price` counts 1e-4.
inline void append_price(std::string& out, std::uint32_t price) {
    append_number(out, price / 10'000);
    const std::uint32_t fraction = price % 10'000;
    out += {'.', static_cast<char>('0' + fraction / 1000), static_cast<char>('0' + fraction / 100 % 10),
            static_cast<char>('0' + fraction / 10 % 10), static_cast<char>('0' + fraction % 10)};
}

inline void append_book(std::string& out, book::BookSet& books, const NamedInstrument& instrument) {
    const auto side = [&](book::Side which, char letter) {
        books.for_each_level(
            instrument.instrument_id, which,
            [&](std::uint32_t price, std::uint64_t size, std::uint32_t orders, std::uint32_t) {
                out += instrument.symbol;
                out += {',', letter, ','};
                append_price(out, price);
                out += ',';
                append_number(out, size);
                out += ',';
                append_number(out, orders);
                out += '\n';
            });
    };
    side(book::Side::bid, 'B');
    side(book::Side::ask, 'S');
}

// `only` empty: all symbols.
inline std::string books_csv(book::BookSet& books, const std::vector<std::string>& only) {
    std::string out;
    for (const NamedInstrument& instrument : named_instruments(books)) {
        const bool wanted =
            only.empty() || std::find(only.begin(), only.end(), instrument.symbol) != only.end();
        if (wanted) append_book(out, books, instrument);
    }
    return out;
}

}  // namespace fh::replay
