// Any bytes as messages through decoding, books and records: no crash, no report of the sanitizers, and books
// that add up. Input: repeated (length byte, message); the length's top bit set in the first byte of an input
// chooses tiny pools. A message that starts with 0xFF clears the books.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "book/audit.hpp"
#include "book/table_reader.hpp"
#include "record/buffer_publisher.hpp"
#include "record/normalizer.hpp"

namespace {

using namespace fh;

void require(bool condition, const char* what) {
    if (condition) return;
    std::fprintf(stderr, "broken: %s\n", what);
    std::abort();
}

// What readers see equals the books, as far as it goes.
void check_views(book::BookSet& books, const std::byte* table) {
    for (std::uint32_t id : {0u, 1u, 2u, 65535u}) {
        BookView view;
        if (read_book(table, id, view) != ReadResult::ok) continue;
        for (const book::Side side : {book::Side::bid, book::Side::ask}) {
            const bool bid = side == book::Side::bid;
            std::uint32_t i = 0;
            books.for_each_level(
                static_cast<std::uint16_t>(id), side,
                [&](std::uint32_t price, std::uint64_t size, std::uint32_t orders, std::uint32_t) {
                    if (i >= book::view_levels) return;
                    const BookLevel& level = bid ? view.bids[i] : view.asks[i];
                    require(level.price == std::int64_t{price} * 100'000, "price of a view");
                    require(level.size == size && level.orders == orders, "level of a view");
                    ++i;
                });
            require(i == (bid ? view.bid_count : view.ask_count), "count of a view");
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const bool tiny = (data[0] & 0x80) != 0;
    book::Reserved<std::byte> table(book::books_file_size, book::Pages::small);
    record::BufferPublisher publisher(0x7F);
    record::NormalizerSettings settings;
    settings.limits = tiny ? book::BookLimits{3, 1, 1} : book::BookLimits{1 << 12, 2, 1 << 8};
    record::Normalizer normalizer(publisher, table.data(), settings);
    normalizer.set_state(FeedState::live);

    // Each message in memory of its own length, so that reading past its end is seen.
    std::vector<std::vector<std::uint8_t>> bytes;
    std::vector<Message> packet;
    std::uint64_t sequence = 1;
    const auto flush = [&] {
        normalizer.on_messages(sequence, packet, 1, TimestampKind::kernel);
        sequence += packet.size();
        packet.clear();
    };
    for (std::size_t at = 0; at < size;) {
        const std::size_t length = std::min<std::size_t>(data[at] & 0x3F, size - at - 1);
        const bool ends_packet = (data[at] & 0x40) != 0;
        bytes.emplace_back(data + at + 1, data + at + 1 + length);
        packet.push_back({bytes.back().data(), static_cast<std::uint16_t>(length)});
        at += 1 + length;
        const bool clears = length > 0 && bytes.back()[0] == 0xFF;
        if (ends_packet || clears) flush();
        if (clears) normalizer.on_clear(sequence, 0);
    }
    flush();
    const std::string fault = book::audit(normalizer.books());
    require(fault.empty(), fault.c_str());
    check_views(normalizer.books(), table.data());
    require(normalizer.counters().messages == bytes.size(), "every message counted once");
    return 0;
}
