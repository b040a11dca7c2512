// Fetches what a later message will need, in stages: an address that hangs on another is asked for one stage later, when that
// one has arrived. A dependent cache miss costs as much as all the rest of a message, and so does a branch on the type that is
// guessed wrong: stages have none, messages that are no orders go through them as harmless ones.
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
    // How many messages before the one that is applied each stage runs.
    static constexpr std::size_t stages = 5;
    static constexpr std::array<std::size_t, stages> distances = {20, 16, 12, 8, 4};

    explicit LookAhead(const book::BookSet& books) : books_(books) {}

    // The first messages of a packet through all stages, as far as each stage runs ahead.
    void start(std::span<const Message> messages) {
        const std::size_t count = messages.size();
        for (std::size_t i = 0; i < std::min(count, distances[0]); ++i) index(i, messages[i]);
        for (std::size_t i = 0; i < std::min(count, distances[1]); ++i) order(i);
        for (std::size_t i = 0; i < std::min(count, distances[2]); ++i) neighbours(i);
        for (std::size_t i = 0; i < std::min(count, distances[3]); ++i) level(i);
        for (std::size_t i = 0; i < std::min(count, distances[4]); ++i) tail(i);
    }

    // Before message i is applied.
    void step(std::size_t i, std::span<const Message> messages) {
        const std::size_t count = messages.size();
        if (i + distances[0] < count) index(i + distances[0], messages[i + distances[0]]);
        if (i + distances[1] < count) order(i + distances[1]);
        if (i + distances[2] < count) neighbours(i + distances[2]);
        if (i + distances[3] < count) level(i + distances[3]);
        if (i + distances[4] < count) tail(i + distances[4]);
    }

  private:
    // What the stages know of a message so far.
    struct Plan {
        std::uint64_t reference;
        const book::Block* block;
        const book::NodeLevels* node;
        std::uint32_t handle;  // 0 when there is no such order: the dummy
        std::uint32_t key;
        std::uint32_t side;
        std::uint32_t adds;  // all ones or all zeros
        std::uint32_t slot;
        std::uint32_t joins;  // the level exists: all ones or all zeros
    };

    static std::uint32_t mask_of(bool condition) { return 0u - static_cast<std::uint32_t>(condition); }
    static std::uint32_t choose(std::uint32_t mask, std::uint32_t yes, std::uint32_t no) { return no ^ ((yes ^ no) & mask); }
    Plan& plan(std::size_t i) { return plans_[i % plans_.size()]; }

    // The place of the reference, and the book's first line.
    void index(std::size_t i, const Message& message) {
        static constexpr std::uint8_t nothing[64] = {};
        const std::uint8_t* p = message.length >= 19 ? message.data : nothing;
        const std::uint32_t adds = mask_of(((p[0] == 'A') | (p[0] == 'F')) & (message.length >= 36));
        const std::uint32_t replaces = mask_of((p[0] == 'U') & (message.length >= 35));
        Plan& out = plan(i);
        out.reference = decode::be64(p + 11);
        out.block = &books_.block(decode::be16(p + 1));
        out.adds = adds;
        out.side = static_cast<std::uint32_t>(p[adds & 19] == 'S');
        out.key = decode::be32(p + (adds & 32)) ^ (out.side - 1);
        __builtin_prefetch(books_.index().place(out.reference), 1);
        __builtin_prefetch(books_.index().place(decode::be64(p + 11 + (replaces & 8))), 1);
        __builtin_prefetch(out.block, 1);
        __builtin_prefetch(&out.block->sides[out.side], 1);
    }

    void order(std::size_t i) {
        Plan& out = plan(i);
        out.handle = books_.find(out.reference);
        __builtin_prefetch(&books_.order(out.handle), 1);
    }

    void neighbours(std::size_t i) {
        Plan& out = plan(i);
        const book::Order& order = books_.order(out.handle);
        __builtin_prefetch(&books_.order(order.previous), 1);
        __builtin_prefetch(&books_.order(order.next), 1);
        out.key = choose(out.adds, out.key, order.key);
        out.side = choose(out.adds, out.side, static_cast<std::uint32_t>(order.side));
        out.node = &out.block->sides[out.side];
        __builtin_prefetch(out.node, 1);
    }

    // The line of the price level; of a level that is to be opened, the slot it will get.
    void level(std::size_t i) {
        Plan& out = plan(i);
        const std::uint32_t used = out.block->used[out.side];
        const book::KeyMatch match = book::match_key(out.node->keys, static_cast<std::uint16_t>(used), out.key);
        const std::uint32_t open = ~(used << 16) & 0xFFFF'0000u;
        out.joins = mask_of(match.equal != 0);
        out.slot = static_cast<std::uint32_t>(std::countr_zero(match.equal | open)) % book::node_levels;
        __builtin_prefetch(&out.node->levels[out.slot], 1);
    }

    // The order last in the queue, which a new one is to follow.
    void tail(std::size_t i) {
        const Plan& at = plan(i);
        __builtin_prefetch(&books_.order(at.node->levels[at.slot].tail & at.joins), 1);
    }

    const book::BookSet& books_;
    std::array<Plan, 32> plans_{};
    static_assert(distances[0] < 32);
};

}  // namespace fh::record
