// Fetches what a later message will need, in stages: an address that hangs on another is asked for one stage
// later, when that one has arrived. A dependent cache miss costs as much as all the rest of a message, and so
// does a branch on the type that is guessed wrong: stages have none, messages that are no orders go through
// them as harmless ones.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "book/book_set.hpp"
#include "decode/orders.hpp"
#include "decode/types.hpp"
#include "message.hpp"

namespace fh::record {

class LookAhead {
  public:
    // Messages that go through a stage together: while the last of them ask, what the first asked for
    // arrives.
    static constexpr std::size_t batch = lookahead_messages;
    static constexpr std::size_t few = 16;

    explicit LookAhead(const book::BookSet& books) : books_(books) {}

    // At most `batch` messages, before the first of them is applied.
    // `records`: whether records of the best levels will be made.
    void fetch(std::span<const Message> messages, bool records) {
        if (messages.size() <= few) return fetch_few(messages);
        std::size_t adds = 0;
        std::size_t others = 0;
        for (const Message& message : messages) {
            // Written to both lists, counted in one.
            const std::uint32_t is_add = first(adds_[adds], others_[others], message);
            adds += is_add;
            others += 1 - is_add;
        }
        for (std::size_t i = 0; i < others; ++i) second(others_[i]);
        for (std::size_t i = 0; i < adds; ++i) second(adds_[i]);
        if (records) {
            for (const Message& message : messages) best(message);
        }
        std::size_t deep = 0;
        for (std::size_t i = 0; i < others; ++i) third(others_[i], deep);
        for (std::size_t i = 0; i < adds; ++i) third(adds_[i], deep);
        for (std::size_t i = 0; i < deep; ++i) fourth(deep_[i]);
        for (std::size_t i = 0; i < deep; ++i) fifth(deep_[i]);
    }

    // Of few messages each stage would wait for its own last: two, and whole books, take less. (Inline, as
    // gcc drops calls that only prefetch.)
    [[gnu::always_inline]] void fetch_few(std::span<const Message> messages) const {
        const std::uint32_t* places[few];
        std::size_t count = 0;
        for (const Message& message : messages) {
            const std::uint8_t* p = message.length >= 19 ? message.data : nothing;
            places[count] = books_.index().place(decode::be64(p + 11));
            __builtin_prefetch(places[count++], 1);
            fetch_book(message);
        }
        for (std::size_t i = 0; i < count; ++i) __builtin_prefetch(&books_.order(*places[i]), 1);
    }

    // Of a lone message there is nothing to overlap with but its own lines: the book's are asked for before
    // the order is known.
    [[gnu::always_inline]] void fetch_book(const Message& message) const {
        const std::uint8_t* p = message.length >= 19 ? message.data : nothing;
        const book::Block& block = books_.block(decode::be16(p + 1));
        for (std::size_t at = 0; at < sizeof(block); at += cache_line) {
            __builtin_prefetch(reinterpret_cast<const std::byte*>(&block) + at, 1);
        }
    }

  private:
    static constexpr std::uint8_t nothing[64] = {};

    // What the stages know of a message so far. Adds know their level and need no order; all others, as far
    // as they are about an order at all, need it to know the level.
    struct Add {
        const book::Block* block;
        std::uint32_t side;
        std::uint32_t key;
        const book::Level* level;
        std::uint32_t joins;  // all ones or all zeros
        std::uint32_t deep;   // 1: the level lies behind the block, if anywhere
    };
    struct Other {
        const std::uint32_t* place;  // of the handle in the index
        const book::Block* block;
        std::uint32_t handle;  // 0 when there is no such order: the dummy
    };
    // A level behind the block.
    struct Deep {
        const book::Block* block;
        std::uint32_t side;
        std::uint32_t key;
        const book::DeepNode* node;
    };

    static book::KeyMatch match(const book::Block& block, std::uint32_t side, std::uint32_t key) {
        return book::match_key(block.sides[side].keys, block.used[side], key);
    }
    // Of a level that is to be opened, the slot it will get.
    static const book::Level& level(const book::Block& block, std::uint32_t side,
                                    const book::KeyMatch& match) {
        const std::uint32_t open = ~std::uint32_t{block.used[side]} << book::node_levels;
        const auto slot =
            static_cast<std::uint32_t>(std::countr_zero(match.equal | open)) % book::node_levels;
        return block.sides[side].levels[slot];
    }
    static std::uint32_t lies_deep(const book::Block& block, std::uint32_t side,
                                   const book::KeyMatch& match) {
        const auto levels = static_cast<unsigned>(std::popcount(block.used[side]));
        return static_cast<std::uint32_t>(match.better == levels) &
               static_cast<std::uint32_t>(book::BookSet::is_deep(block, side));
    }

    // The reference's place in the index, the book's first line and its keys. Returns 1 for an add.
    std::uint32_t first(Add& add, Other& other, const Message& message) const {
        const std::uint8_t* p = message.length >= 19 ? message.data : nothing;
        const std::uint32_t adds = book::mask_of(((p[0] == 'A') | (p[0] == 'F')) & (message.length >= 36));
        const book::Block& block = books_.block(decode::be16(p + 1));
        const auto side = static_cast<std::uint32_t>(p[adds & 19] == 'S');
        const std::uint32_t* place = books_.index().place(decode::be64(p + 11));
        __builtin_prefetch(place, 1);
        __builtin_prefetch(&block, 1);
        __builtin_prefetch(&block.sides[0], 1);
        __builtin_prefetch(&block.sides[1], 1);
        add.block = &block;
        add.side = side;
        add.key = decode::be32(p + (adds & 32)) ^ (side - 1);
        other.place = place;
        other.block = &block;
        return adds & 1;
    }

    // The level; behind the block, the directory.
    void second(Add& add) const {
        const book::KeyMatch found = match(*add.block, add.side, add.key);
        add.level = &level(*add.block, add.side, found);
        add.joins = book::mask_of(found.equal != 0);
        add.deep = lies_deep(*add.block, add.side, found);
        __builtin_prefetch(add.level, 1);
        __builtin_prefetch(&books_.deep_side(*add.block, add.side), 1);
    }
    // The best level of either side.
    void best(const Message& message) const {
        const std::uint8_t* p = message.length >= 19 ? message.data : nothing;
        book::Block& block = books_.block(decode::be16(p + 1));
        __builtin_prefetch(&block.side(0).level_at(0), 1);
        __builtin_prefetch(&block.side(1).level_at(0), 1);
    }
    // The order.
    void second(Other& other) const {
        other.handle = *other.place;
        __builtin_prefetch(&books_.order(other.handle), 1);
    }

    // The order last in the queue.
    void third(const Add& add, std::size_t& deep) {
        __builtin_prefetch(&books_.order(add.level->tail & add.joins), 1);
        deep_[deep] = {add.block, add.side, add.key, nullptr};
        deep += add.deep;
    }
    // The order's neighbours and level; behind the block, the directory.
    void third(const Other& other, std::size_t& deep) {
        const book::Order& order = books_.order(other.handle);
        __builtin_prefetch(&books_.order(order.previous), 1);
        __builtin_prefetch(&books_.order(order.next), 1);
        const auto side = static_cast<std::uint32_t>(order.side);
        const book::KeyMatch found = match(*other.block, side, order.key);
        __builtin_prefetch(&level(*other.block, side, found), 1);
        deep_[deep] = {other.block, side, order.key, nullptr};
        const std::uint32_t lies = lies_deep(*other.block, side, found);
        __builtin_prefetch(&books_.deep_side(*other.block, side), 1);
        deep += lies;
    }

    // The node that holds the level.
    void fourth(Deep& at) const {
        at.node = books_.deep_node(*at.block, at.side, at.key);
        __builtin_prefetch(&at.node->body, 1);
        __builtin_prefetch(&at.node->order, 1);
    }
    void fifth(const Deep& at) const {
        const book::KeyMatch found = book::match_key(at.node->body.keys, at.node->used, at.key);
        const auto slot = static_cast<std::uint32_t>(std::countr_zero(found.equal | 0x8000u));
        __builtin_prefetch(&at.node->body.levels[slot], 1);
    }

    const book::BookSet& books_;
    std::array<Add, batch + 1> adds_{};
    std::array<Other, batch + 1> others_{};
    std::array<Deep, batch + 1> deep_{};
};

}  // namespace fh::record
