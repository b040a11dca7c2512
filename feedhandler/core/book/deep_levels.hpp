// The levels of a side behind its best node: nodes of up to sixteen levels in a sorted directory. A book of
// ten thousand levels costs one binary search in a few kilobytes and one node. Node pool and directories are
// reserved at start-up.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>

#include "book/levels.hpp"
#include "book/memory.hpp"

namespace fh::book {

inline constexpr std::size_t table_sides = 65536 * 2;

struct alignas(64) DeepNode {
    NodeLevels body;
    Permutation order;
    std::uint16_t used;

    Node node() { return {body, order, used}; }
};

// The directory of one side of one book; all zero when empty. A few nodes are listed in place: one cache miss
// less for all but the deepest books.
struct alignas(64) DeepSide {
    static constexpr std::uint32_t in_place = 5;

    std::uint32_t* outside;  // keys and behind them numbers, `capacity` of each; nullptr: in place
    std::uint32_t count;
    std::uint32_t capacity;  // 0: in place
    std::uint32_t few_keys[in_place];
    std::uint32_t few_nodes[in_place];

    // Smallest key of each node, rising; the nodes' numbers.
    const std::uint32_t* first_keys() const { return outside == nullptr ? few_keys : outside; }
    const std::uint32_t* nodes() const { return outside == nullptr ? few_nodes : outside + capacity; }
    std::uint32_t* first_keys() { return outside == nullptr ? few_keys : outside; }
    std::uint32_t* nodes() { return outside == nullptr ? few_nodes : outside + capacity; }
    bool has_place() const { return count < (outside == nullptr ? in_place : capacity); }
};
static_assert(sizeof(DeepSide) == 64);

struct DeepPlace {
    std::uint32_t at;  // in the directory
    DeepNode* node;    // nullptr: no such level
    unsigned rank;     // in the node
    unsigned slot;
};

class DeepLevels {
  public:
    explicit DeepLevels(std::uint32_t max_nodes)
        : nodes_(std::size_t{max_nodes} + 1, Pages::huge),
          words_(std::size_t{max_nodes} * 8 + words_spare, Pages::small),
          node_limit_(max_nodes),
          word_limit_(std::size_t{max_nodes} * 8 + words_spare) {}

    // One node for 24 live orders was seen, and eight words for one node.
    std::size_t prefault(std::uint32_t orders) {
        const std::size_t nodes = orders / 24 + 1;
        return nodes_.prefault(nodes) + words_.prefault(nodes * 8);
    }

    // Whether one more level surely fits: asked before anything is changed.
    bool room(const DeepSide& side) const {
        if (free_node_ == 0 && used_nodes_ == node_limit_) return false;
        if (side.has_place()) return true;
        const unsigned size_class = class_of(std::max(side.capacity * 2, min_capacity));
        return free_words_[size_class] != nullptr ||
               used_words_ + (std::size_t{2} << size_class) <= word_limit_;
    }

    DeepPlace find(const DeepSide& side, std::uint32_t key) {
        if (side.count == 0) return {0, nullptr, 0, 0};
        const std::uint32_t at = locate(side, key);
        DeepNode& node = nodes_[side.nodes()[at]];
        const KeyMatch match = node.node().match(key);
        if (match.equal == 0) return {at, nullptr, match.better, 0};
        return {at, &node, match.better, static_cast<unsigned>(std::countr_zero(match.equal))};
    }

    // Of a key that is not in it. Only when there is room().
    void insert(DeepSide& side, std::uint32_t key, Level level) {
        if (side.count == 0) insert_node(side, 0, key, take_node());
        std::uint32_t at = locate(side, key);
        if (nodes_[side.nodes()[at]].node().full()) {
            split(side, at);
            at += key > side.first_keys()[at + 1];
        }
        Node node = nodes_[side.nodes()[at]].node();
        node.insert(node.match(key).better, key, level);
        side.first_keys()[at] = std::min(side.first_keys()[at], key);
    }

    void erase(DeepSide& side, const DeepPlace& place) {
        Node node = place.node->node();
        node.erase(place.rank, place.slot);
        if (node.used == 0) {
            erase_node(side, place.at);
        } else if (place.rank == 0) {
            side.first_keys()[place.at] = node.key_at(0);
        }
    }

    // The best node: never empty when the side is not.
    Node front(const DeepSide& side) { return nodes_[side.nodes()[0]].node(); }
    void erase_front(DeepSide& side) {
        DeepNode& node = nodes_[side.nodes()[0]];
        erase(side, {0, &node, 0, node.order.at(0)});
    }
    const DeepNode* node_for(const DeepSide& side, std::uint32_t key) const {
        return &nodes_[side.count == 0 ? 0 : side.nodes()[locate(side, key)]];
    }
    Node node(const DeepSide& side, std::uint32_t at) { return nodes_[side.nodes()[at]].node(); }

    void clear(DeepSide& side) {
        for (std::uint32_t i = 0; i < side.count; ++i) give_back_node(side.nodes()[i]);
        if (side.outside != nullptr) give_back_words(side);
        side = {};
    }

  private:
    static constexpr std::uint32_t min_capacity = 16;  // one line of keys, one of nodes
    static constexpr std::size_t words_spare = table_sides * min_capacity * 2;
    static constexpr unsigned classes = 32;
    static unsigned class_of(std::uint32_t capacity) {
        return static_cast<unsigned>(std::bit_width(capacity) - 1);
    }

    // The last node whose first key is not above the key, else the first.
    static std::uint32_t locate(const DeepSide& side, std::uint32_t key) {
        if (side.outside == nullptr) [[likely]] {
            std::uint32_t at = 0;
            for (std::uint32_t i = 1; i < side.count; ++i) at += side.few_keys[i] <= key;
            return at;
        }
        const std::uint32_t* base = side.outside;
        for (std::uint32_t length = side.count; length > 1;) {
            const std::uint32_t half = length / 2;
            base = base[half] <= key ? base + half : base;
            length -= half;
        }
        return static_cast<std::uint32_t>(base - side.outside);
    }

    void split(DeepSide& side, std::uint32_t at) {
        const std::uint32_t number = take_node();
        Node from = nodes_[side.nodes()[at]].node();
        Node to = nodes_[number].node();
        for (unsigned rank = 0; rank < node_levels / 2; ++rank) {
            to.insert(rank, from.key_at(node_levels / 2), from.level_at(node_levels / 2));
            from.erase(node_levels / 2);
        }
        insert_node(side, at + 1, to.key_at(0), number);
    }

    void insert_node(DeepSide& side, std::uint32_t at, std::uint32_t first_key, std::uint32_t number) {
        if (!side.has_place()) grow(side);
        std::memmove(side.first_keys() + at + 1, side.first_keys() + at,
                     (side.count - at) * sizeof(std::uint32_t));
        std::memmove(side.nodes() + at + 1, side.nodes() + at, (side.count - at) * sizeof(std::uint32_t));
        side.first_keys()[at] = first_key;
        side.nodes()[at] = number;
        ++side.count;
    }

    void erase_node(DeepSide& side, std::uint32_t at) {
        give_back_node(side.nodes()[at]);
        --side.count;
        std::memmove(side.first_keys() + at, side.first_keys() + at + 1,
                     (side.count - at) * sizeof(std::uint32_t));
        std::memmove(side.nodes() + at, side.nodes() + at + 1, (side.count - at) * sizeof(std::uint32_t));
        if (side.count != 0) return;
        if (side.outside != nullptr) give_back_words(side);
        side = {};
    }

    void grow(DeepSide& side) {
        const std::uint32_t capacity = std::max(side.capacity * 2, min_capacity);
        const unsigned size_class = class_of(capacity);
        std::uint32_t* words = free_words_[size_class];
        if (words != nullptr) {
            std::memcpy(&free_words_[size_class], static_cast<void*>(words), sizeof(std::uint32_t*));
        } else {
            words = &words_[used_words_];
            used_words_ += std::size_t{capacity} * 2;
        }
        std::memcpy(words, side.first_keys(), side.count * sizeof(std::uint32_t));
        std::memcpy(words + capacity, side.nodes(), side.count * sizeof(std::uint32_t));
        if (side.outside != nullptr) give_back_words(side);
        side.outside = words;
        side.capacity = capacity;
    }

    void give_back_words(const DeepSide& side) {
        std::uint32_t*& free = free_words_[class_of(side.capacity)];
        std::memcpy(static_cast<void*>(side.outside), &free, sizeof(std::uint32_t*));
        free = side.outside;
    }

    std::uint32_t take_node() {
        std::uint32_t number = free_node_;
        if (number == 0) {
            number = ++used_nodes_;
        } else {
            free_node_ = nodes_[number].body.keys[0];
        }
        nodes_[number].used = 0;
        return number;
    }
    void give_back_node(std::uint32_t number) {
        nodes_[number].body.keys[0] = free_node_;
        free_node_ = number;
    }

    Reserved<DeepNode> nodes_;       // 0 is not used
    Reserved<std::uint32_t> words_;  // directories, in sizes of powers of two
    std::uint32_t node_limit_;
    std::size_t word_limit_;
    std::uint32_t used_nodes_ = 0;
    std::uint32_t free_node_ = 0;
    std::size_t used_words_ = 0;
    std::uint32_t* free_words_[classes] = {};
};

}  // namespace fh::book
