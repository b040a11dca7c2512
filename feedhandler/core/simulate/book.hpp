// The exchange's own book of one stock: price levels with their queues, in price-time priority.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "simulate/orders.hpp"

namespace fh::simulate {

struct Level {
    std::uint32_t price;
    std::uint32_t orders;
    std::uint64_t shares;
    std::uint32_t head, tail;  // oldest and newest order
};

// Trading states as in message H.
enum class Trading : char { halted = 'H', paused = 'P', quoting = 'Q', trading = 'T' };

struct Stock {
    std::vector<Level> levels[2];  // by Side; the best at the back
    std::array<char, 8> name;
    std::uint32_t anchor;  // price that trading keeps near
    std::uint16_t tick;
    Trading state = Trading::trading;
    bool operational_halt = false;  // by message h

    const Level* best(Side side) const {
        const auto& of = levels[static_cast<std::size_t>(side)];
        return of.empty() ? nullptr : &of.back();
    }
    // Can an order of `side` at `price` trade at once?
    bool marketable(Side side, std::uint32_t price) const {
        const Level* other = best(opposite(side));
        return other != nullptr && (side == Side::buy ? price >= other->price : price <= other->price);
    }
    bool open() const { return state == Trading::trading && !operational_halt; }
};

// True when `a` is the better price of its side.
inline bool better(Side side, std::uint32_t a, std::uint32_t b) { return side == Side::buy ? a > b : a < b; }

// Index of the level with this price, or of the place where it belongs. Most prices are near the best: search
// from the back, by halves.
inline std::size_t find_level(const std::vector<Level>& levels, Side side, std::uint32_t price) {
    std::size_t high = levels.size(), step = 1;
    // invariant: levels[high..] are all better than `price`
    while (high >= step && better(side, levels[high - step].price, price)) {
        high -= step;
        step *= 2;
    }
    std::size_t low = high >= step ? high - step + 1 : 0;  // levels[..low) are not better
    while (low < high) {
        const std::size_t middle = (low + high) / 2;
        if (better(side, levels[middle].price, price)) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low > 0 && levels[low - 1].price == price ? low - 1 : low;
}

// Queues an order at the tail of its level. Returns true when it opened the level.
inline bool link(Stock& stock, OrderPool& pool, std::uint32_t handle) {
    Order& order = pool[handle];
    auto& levels = stock.levels[static_cast<std::size_t>(order.side)];
    const std::size_t at = find_level(levels, order.side, order.price);
    const bool opens = at == levels.size() || levels[at].price != order.price;
    if (opens)
        levels.insert(levels.begin() + static_cast<std::ptrdiff_t>(at), Level{order.price, 0, 0, 0, 0});
    Level& level = levels[at];
    order.previous = level.tail;
    order.next = 0;
    if (level.tail != 0) {
        pool[level.tail].next = handle;
    } else {
        level.head = handle;
    }
    level.tail = handle;
    ++level.orders;
    level.shares += order.shares;
    return opens;
}

inline void reduce(Stock& stock, OrderPool& pool, std::uint32_t handle, std::uint32_t shares) {
    Order& order = pool[handle];
    auto& levels = stock.levels[static_cast<std::size_t>(order.side)];
    levels[find_level(levels, order.side, order.price)].shares -= shares;
    order.shares -= shares;
}

// Takes an order out of its queue; closes its level when it was the last. The order keeps its shares.
inline void unlink(Stock& stock, OrderPool& pool, std::uint32_t handle) {
    const Order& order = pool[handle];
    auto& levels = stock.levels[static_cast<std::size_t>(order.side)];
    const std::size_t at = find_level(levels, order.side, order.price);
    Level& level = levels[at];
    if (--level.orders == 0) {
        levels.erase(levels.begin() + static_cast<std::ptrdiff_t>(at));
        return;
    }
    level.shares -= order.shares;
    (order.previous != 0 ? pool[order.previous].next : level.head) = order.next;
    (order.next != 0 ? pool[order.next].previous : level.tail) = order.previous;
}

}  // namespace fh::simulate
