// All books of a feed: every order, every level, every instrument. One writer. Knows orders and prices, no
// venue.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "book/deep_levels.hpp"
#include "book/order.hpp"
#include "book/order_index.hpp"
#include "book/table_writer.hpp"

namespace fh::book {

// Bounds of the pools. Memory is reserved, and used only as far as the feed needs it.
struct BookLimits {
    std::uint32_t orders = 1u << 24;       // live at once; 32 bytes each
    std::uint32_t index_pages = 1u << 13;  // of 4,096 references, 16 KiB each
    std::uint32_t deep_nodes = 1u << 22;   // of up to 16 levels, 384 bytes each
};

// Rank of a level that lies behind the block's: somewhere past every view.
inline constexpr unsigned rank_deep = 255;

class BookSet {
  public:
    BookSet(std::byte* books_file, const BookLimits& limits)
        : table_(books_file),
          orders_(limits.orders),
          index_(limits.index_pages, limits.orders),
          deep_(limits.deep_nodes),
          deep_sides_(std::size_t{table_instruments} * 2, Pages::huge) {}

    // Takes the memory that so many live orders will need; returns its bytes.
    std::size_t prefault(std::uint32_t orders) {
        if (orders == 0) return 0;
        return orders_.prefault(orders) + index_.prefault(orders) + deep_.prefault(orders) +
               deep_sides_.prefault(std::size_t{table_instruments} * 2);
    }

    TableWriter& table() { return table_; }
    const TableWriter& table() const { return table_; }
    Block& block(std::uint16_t instrument) const { return table_.block(instrument); }
    Order& order(std::uint32_t handle) const { return orders_[handle]; }
    using Place = OrderIndex::Place;
    std::uint32_t find(std::uint64_t reference) const { return index_.find(reference); }
    std::uint32_t find(std::uint64_t reference, Place& place) const { return index_.find(reference, place); }
    std::uint32_t live_orders() const { return orders_.live(); }
    const OrderIndex& index() const { return index_; }

    // Puts a new order at the end of its level's queue. The reference must not be live. Returns the rank of
    // its level, or `refused` when a pool is full: the book is then marked incomplete until the next clear.
    // `place`: of find(), if it still holds.
    static constexpr unsigned refused = ~0u;
    [[gnu::always_inline]] unsigned add(std::uint64_t reference, std::uint16_t instrument, Side side,
                                        std::uint32_t price, std::uint32_t shares,
                                        const Place* place = nullptr) {
        Block& b = block(instrument);
        if (orders_.full()) [[unlikely]]
            return refuse(b);
        const std::uint32_t handle = orders_.next_handle();
        const unsigned s = static_cast<unsigned>(side);
        const std::uint32_t key = price_key(side, price);
        Node node = b.side(s);
        const KeyMatch match = node.match(key);
        std::uint32_t ahead = 0;
        unsigned rank = match.better;
        const bool full = node.full() || (rank == node.size() && is_deep(b, s));
        if (full && match.equal == 0) [[unlikely]] {
            if (!add_beside_deep(b, s, rank, key, handle, shares, ahead)) return refuse(b);
            if (rank >= b.side(s).size()) rank = rank_deep;
        } else {
            ahead = node.add_order(match, key, handle, shares);
        }
        orders_.take();
        orders_[handle] = {ahead, 0, key, shares, reference, instrument, side, {}};
        orders_[ahead].next = handle;
        place != nullptr ? index_.insert(reference, handle, *place) : index_.insert(reference, handle);
        if ((b.flags & block_touched) == 0) [[unlikely]]
            TableWriter::set_flags(b, b.flags | block_touched);
        return rank;
    }

    // Takes shares (at most what is left) off an order; an order without shares leaves. Returns the rank its
    // level had.
    unsigned take(std::uint32_t handle, std::uint32_t shares, const Place* place = nullptr) {
        Order& order = orders_[handle];
        if (shares == order.shares) return remove(handle, place);
        Block& b = block(order.instrument);
        const unsigned s = static_cast<unsigned>(order.side);
        Node node = b.side(s);
        const KeyMatch match = node.match(order.key);
        Level* level = &node.body.levels[std::countr_zero(match.equal | 1u << 15)];
        unsigned rank = match.better;
        if (match.equal == 0) [[unlikely]] {
            const DeepPlace at = deep_.find(deep_side(order.instrument, s), order.key);
            level = &at.node->body.levels[at.slot];
            rank = rank_deep;
        }
        store(level->size, level->size - shares);
        order.shares -= shares;
        return rank;
    }

    // The whole of an order leaves. What the order says stays readable until the next add.
    [[gnu::always_inline]] unsigned remove(std::uint32_t handle, const Place* place) {
        const Order& order = orders_[handle];
        Block& b = block(order.instrument);
        const unsigned s = static_cast<unsigned>(order.side);
        Node node = b.side(s);
        const KeyMatch match = node.match(order.key);
        unsigned rank = match.better;
        if (match.equal != 0) [[likely]] {
            const auto slot = static_cast<unsigned>(std::countr_zero(match.equal));
            node.erase_if(unlink(node.body.levels[slot], handle, order), rank, slot);
            if (is_deep(b, s) && node.size() < view_levels) [[unlikely]]
                refill(b, s);
        } else {
            rank = rank_deep;
            remove_deep(b, s, handle, order);
        }
        place != nullptr ? index_.erase(order.reference, *place) : index_.erase(order.reference);
        orders_.give_back(handle);
        return rank;
    }

    // Empties one book without looking at its orders: only as part of clearing all of them.
    void clear_book(std::uint16_t instrument) {
        Block& b = block(instrument);
        for (unsigned s = 0; s < 2; ++s) {
            store(b.used[s], std::uint16_t{0});
            if (is_deep(b, s)) deep_.clear(deep_side(instrument, s));
        }
        TableWriter::set_flags(b, b.flags & (block_known | block_published));
    }
    void clear_orders() {
        orders_.clear();
        index_.clear();
    }

    // All orders and deeper levels become the other's, and the reverse. The blocks do not: they are to be
    // copied with them. Both sets must have the same limits.
    void swap_orders(BookSet& other) {
        std::swap(orders_, other.orders_);
        std::swap(index_, other.index_);
        std::swap(deep_, other.deep_);
        std::swap(deep_sides_, other.deep_sides_);
    }

    // Every level, best first: function(price, size, orders, handle of the order last in the queue).
    template <class Function>
    void for_each_level(std::uint16_t instrument, Side side, Function&& function) {
        Block& b = block(instrument);
        const unsigned s = static_cast<unsigned>(side);
        for_each_in(b.side(s), side, function);
        const DeepSide& deep = deep_side(instrument, s);
        for (std::uint32_t i = 0; i < deep.count; ++i) for_each_in(deep_.node(deep, i), side, function);
    }

    // For looking ahead.
    static bool is_deep(const Block& b, unsigned s) { return ((b.flags >> s) & block_deep_bid) != 0; }
    const DeepSide& deep_side(const Block& b, unsigned s) const { return deep_side(instrument_of(b), s); }
    const DeepNode* deep_node(const Block& b, unsigned s, std::uint32_t key) const {
        return deep_.node_for(deep_side(b, s), key);
    }

  private:
    std::uint16_t instrument_of(const Block& b) const {
        return static_cast<std::uint16_t>(&b - &table_.block(0));
    }
    static std::uint8_t deep_flag(unsigned s) { return static_cast<std::uint8_t>(block_deep_bid << s); }
    static void clear_flag(Block& b, std::uint8_t flag) {
        TableWriter::set_flags(b, b.flags & ~unsigned{flag});
    }
    DeepSide& deep_side(std::uint16_t instrument, unsigned s) const {
        return deep_sides_[std::size_t{instrument} * 2 + s];
    }

    static unsigned refuse(Block& b) {
        TableWriter::set_flags(b, b.flags | block_incomplete | block_touched);
        return refused;
    }

    // Returns the order that was last in the queue so far.
    static std::uint32_t join(Level& level, std::uint32_t handle, std::uint32_t shares) {
        const std::uint32_t ahead = level.tail;
        store(level.size, level.size + shares);
        store(level.orders, level.orders + 1);
        store(level.tail, handle);
        return ahead;
    }

    // Takes an order out of its level's queue. Returns whether the level is empty now.
    bool unlink(Level& level, std::uint32_t handle, const Order& order) {
        const std::uint32_t previous = order.previous;
        const std::uint32_t next = order.next;
        const std::uint32_t orders = level.orders - 1;
        store(level.size, level.size - order.shares);
        orders_[previous].next = next;
        orders_[next].previous = previous;
        store(level.tail, level.tail == handle ? previous : level.tail);
        store(level.orders, orders);
        return orders == 0;
    }

    [[gnu::noinline]] void remove_deep(Block& b, unsigned s, std::uint32_t handle, const Order& order) {
        DeepSide& side = deep_side(order.instrument, s);
        const DeepPlace at = deep_.find(side, order.key);
        if (!unlink(at.node->body.levels[at.slot], handle, order)) return;
        deep_.erase(side, at);
        if (side.count == 0) clear_flag(b, deep_flag(s));
    }

    // A level that is new to the block, whose node is full or which lies behind it.
    [[gnu::noinline]] bool add_beside_deep(Block& b, unsigned s, unsigned rank, std::uint32_t key,
                                           std::uint32_t handle, std::uint32_t shares, std::uint32_t& ahead) {
        DeepSide& side = deep_side(instrument_of(b), s);
        Node node = b.side(s);
        if (rank < node.size()) {
            if (!deep_.room(side)) return false;
            // The worst of the block make room, a few at once so that the next new level need not.
            constexpr unsigned keep = 13;
            while (node.size() > keep && deep_.room(side)) {
                const unsigned last = node.size() - 1;
                deep_.insert(side, node.key_at(last), node.level_at(last));
                node.erase(last);
            }
            TableWriter::set_flags(b, b.flags | deep_flag(s));
            if (rank <= node.size()) {
                node.insert(rank, key, {shares, 1, handle});
                return true;
            }
        }
        const DeepPlace place = deep_.find(side, key);
        if (place.node != nullptr) {
            ahead = join(place.node->body.levels[place.slot], handle, shares);
            return true;
        }
        if (!deep_.room(side)) return false;
        deep_.insert(side, key, {shares, 1, handle});
        TableWriter::set_flags(b, b.flags | deep_flag(s));
        return true;
    }

    // The block must hold the ten best: it is down to nine, and there are more behind.
    [[gnu::noinline]] void refill(Block& b, unsigned s) {
        constexpr unsigned wanted = 13;
        DeepSide& side = deep_side(instrument_of(b), s);
        Node node = b.side(s);
        while (node.size() < wanted && side.count != 0) {
            const Node front = deep_.front(side);
            node.insert(node.size(), front.key_at(0), front.level_at(0));
            deep_.erase_front(side);
        }
        if (side.count == 0) clear_flag(b, deep_flag(s));
    }

    template <class Function>
    void for_each_in(const Node& node, Side side, Function&& function) {
        for (unsigned rank = 0; rank < node.size(); ++rank) {
            const Level& level = node.level_at(rank);
            function(key_price(side, node.key_at(rank)), level.size, level.orders, level.tail);
        }
    }

    TableWriter table_;
    OrderPool orders_;
    OrderIndex index_;
    DeepLevels deep_;
    Reserved<DeepSide> deep_sides_;  // by instrument and side
};

}  // namespace fh::book
