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
    static constexpr std::size_t batch = 64;

    explicit LookAhead(const book::BookSet& books) : books_(books) {}

    // At most `batch` messages, before the first of them is applied.
    void fetch(std::span<const Message> messages) {
        const std::span<Plan> plans(plans_.data(), messages.size());
        for (std::size_t i = 0; i < plans.size(); ++i) first(plans[i], messages[i]);
        for (Plan& plan : plans) second(plan);
        std::size_t deep = 0;
        for (Plan& plan : plans) {
            third(plan);
            deep_[deep] = &plan;
            deep += plan.deep;
        }
        for (std::size_t i = 0; i < deep; ++i) fourth(*deep_[i]);
        for (std::size_t i = 0; i < deep; ++i) fifth(*deep_[i]);
    }

    // Of a lone message there is nothing to overlap with but its own lines: the book's are asked for before
    // the order is known.
    void fetch_book(const Message& message) const {
        const std::uint8_t* p = message.length >= 19 ? message.data : nothing;
        const book::Block& block = books_.block(decode::be16(p + 1));
        for (std::size_t at = 0; at < sizeof(block); at += cache_line) {
            __builtin_prefetch(reinterpret_cast<const std::byte*>(&block) + at, 1);
        }
    }

  private:
    static constexpr std::uint8_t nothing[64] = {};

    // What the stages know of a message so far.
    struct Plan {
        const std::uint32_t* place;  // of the handle in the index
        const book::Block* block;
        const book::DeepNode* node;
        std::uint32_t handle;  // 0 when there is no such order: the dummy
        std::uint32_t key;
        std::uint32_t side;
        std::uint32_t adds;  // all ones or all zeros
        std::uint32_t deep;  // 1: the level lies behind the block, if anywhere
    };

    static std::uint32_t mask_of(bool condition) { return 0u - static_cast<std::uint32_t>(condition); }
    static std::uint32_t choose(std::uint32_t mask, std::uint32_t yes, std::uint32_t no) {
        return no ^ ((yes ^ no) & mask);
    }
    static book::KeyMatch match(const Plan& plan) {
        return book::match_key(plan.block->sides[plan.side].keys, plan.block->used[plan.side], plan.key);
    }
    // The level's; of a level that is to be opened, the slot it will get.
    static const book::Level& level(const Plan& plan, const book::KeyMatch& match) {
        const std::uint32_t open = ~(std::uint32_t{plan.block->used[plan.side]} << 16) & 0xFFFF'0000u;
        const auto slot =
            static_cast<std::uint32_t>(std::countr_zero(match.equal | open)) % book::node_levels;
        return plan.block->sides[plan.side].levels[slot];
    }

    // The reference's place in the index, the book's first line and its keys.
    void first(Plan& out, const Message& message) const {
        const std::uint8_t* p = message.length >= 19 ? message.data : nothing;
        const std::uint32_t adds = mask_of(((p[0] == 'A') | (p[0] == 'F')) & (message.length >= 36));
        out.block = &books_.block(decode::be16(p + 1));
        out.adds = adds;
        out.side = static_cast<std::uint32_t>(p[adds & 19] == 'S');
        out.key = decode::be32(p + (adds & 32)) ^ (out.side - 1);
        out.place = books_.index().place(decode::be64(p + 11));
        __builtin_prefetch(out.place, 1);
        __builtin_prefetch(out.block, 1);
        __builtin_prefetch(&out.block->sides[0], 1);
        __builtin_prefetch(&out.block->sides[1], 1);
    }

    // The order; of an add the level.
    void second(Plan& out) const {
        out.handle = *out.place;
        __builtin_prefetch(&books_.order(out.handle), 1);
        __builtin_prefetch(&level(out, match(out)), 1);
        __builtin_prefetch(&books_.deep_side(*out.block, 0));
    }

    // The order's neighbours and level; of an add the order last in the queue.
    void third(Plan& out) const {
        static constexpr std::uint32_t none = 0;
        const book::Order& order = books_.order(out.handle);
        __builtin_prefetch(&books_.order(order.previous), 1);
        __builtin_prefetch(&books_.order(order.next), 1);
        out.key = choose(out.adds, out.key, order.key);
        out.side = choose(out.adds, out.side, static_cast<std::uint32_t>(order.side));
        const book::KeyMatch found = match(out);
        const book::Level& at = level(out, found);
        __builtin_prefetch(&at, 1);
        // Not read of other messages: their level's line is not there yet.
        const auto joins = static_cast<std::uintptr_t>(
            std::int64_t{static_cast<std::int32_t>(out.adds & mask_of(found.equal != 0))});
        const auto absent = reinterpret_cast<std::uintptr_t>(&none);
        const auto tail = absent ^ ((absent ^ reinterpret_cast<std::uintptr_t>(&at.tail)) & joins);
        __builtin_prefetch(&books_.order(*reinterpret_cast<const std::uint32_t*>(tail)), 1);
        const unsigned levels = static_cast<unsigned>(std::popcount(out.block->used[out.side]));
        out.deep = static_cast<std::uint32_t>(found.better == levels) &
                   static_cast<std::uint32_t>(book::BookSet::is_deep(*out.block, out.side));
    }

    // Behind the block: the node that holds the level.
    void fourth(Plan& out) const {
        out.node = books_.deep_node(*out.block, out.side, out.key);
        __builtin_prefetch(&out.node->body, 1);
        __builtin_prefetch(&out.node->order, 1);
    }

    void fifth(const Plan& at) const {
        const book::KeyMatch found = book::match_key(at.node->body.keys, at.node->used, at.key);
        const auto slot = static_cast<std::uint32_t>(std::countr_zero(found.equal | 0x8000u));
        __builtin_prefetch(&at.node->body.levels[slot], 1);
    }

    const book::BookSet& books_;
    std::array<Plan, batch> plans_{};
    std::array<Plan*, batch + 1> deep_{};
};

}  // namespace fh::record
