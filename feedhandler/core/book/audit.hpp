// Whether the books are whole: for tests, the fuzzer and nobody's hot path.
#pragma once

#include <cstdint>
#include <string>

#include "book/book_set.hpp"

namespace fh::book {

namespace detail {

// Walks one level's queue from its tail; returns what is wrong, or nothing.
inline std::string audit_level(const BookSet& books, std::uint16_t instrument, Side side, std::uint32_t price,
                               std::uint64_t size, std::uint32_t orders, std::uint32_t tail) {
    std::uint64_t sum = 0;
    std::uint32_t count = 0;
    for (std::uint32_t handle = tail, behind = 0; handle != 0;
         behind = handle, handle = books.order(handle).previous) {
        const Order& order = books.order(handle);
        if (order.instrument != instrument || order.side != side || order.price() != price)
            return "order in a foreign level";
        if (order.next != behind) return "broken queue";
        if (books.find(order.reference) != handle) return "order not found by its reference";
        sum += order.shares;
        if (++count > orders) return "queue longer than the level's count";
    }
    if (count != orders || count == 0) return "count of a level differs from its queue";
    if (sum != size) return "size of a level differs from the sum of its orders";
    return {};
}

inline std::string audit_side(BookSet& books, std::uint16_t instrument, Side side, std::uint64_t& live) {
    Block& block = books.block(instrument);
    if ((block.version & 1) != 0) return "version left odd";
    std::string fault;
    std::int64_t last = -1;
    std::uint64_t levels = 0;
    books.for_each_level(
        instrument, side,
        [&](std::uint32_t price, std::uint64_t size, std::uint32_t orders, std::uint32_t tail) {
            const std::int64_t key = price_key(side, price);
            if (key <= last) fault = "levels out of order";
            last = key;
            ++levels;
            live += orders;
            if (fault.empty()) fault = audit_level(books, instrument, side, price, size, orders, tail);
        });
    const unsigned shown = block.side(static_cast<unsigned>(side)).size();
    if (fault.empty() && levels > shown && shown < view_levels) fault = "view not filled";
    return fault.empty() ? fault : fault + " (instrument " + std::to_string(instrument) + ")";
}

}  // namespace detail

// Sums of orders, queues, order of levels, references, live count. Empty when all is well.
inline std::string audit(BookSet& books) {
    std::uint64_t live = 0;
    std::string fault;
    books.table().for_each_named([&](std::uint16_t instrument) {
        for (const Side side : {Side::bid, Side::ask}) {
            if (fault.empty()) fault = detail::audit_side(books, instrument, side, live);
        }
    });
    if (!fault.empty()) return fault;
    return live == books.live_orders() ? std::string{} : "live orders differ from the queues";
}

}  // namespace fh::book
