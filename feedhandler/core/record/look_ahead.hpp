// Fetches what a later message will need, in stages: an address that hangs on another is asked for one stage later, when that
// one has arrived. A dependent cache miss costs as much as all the rest of a message.
#pragma once

#include <algorithm>
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
    // How many messages ahead of the one that is applied each stage runs.
    static constexpr std::size_t distances[4] = {16, 12, 8, 4};

    LookAhead(const book::BookSet& books, std::span<const Message> messages) : books_(books), messages_(messages) {
        const std::size_t count = messages.size();
        for (std::size_t i = 0; i < std::min(count, distances[0]); ++i) index(messages[i]);
        for (std::size_t i = 0; i < std::min(count, distances[1]); ++i) order(messages[i]);
        for (std::size_t i = 0; i < std::min(count, distances[2]); ++i) neighbours(messages[i]);
        for (std::size_t i = 0; i < std::min(count, distances[3]); ++i) level(messages[i]);
    }

    void step(std::size_t i) const {
        const std::size_t count = messages_.size();
        if (i + distances[0] < count) index(messages_[i + distances[0]]);
        if (i + distances[1] < count) order(messages_[i + distances[1]]);
        if (i + distances[2] < count) neighbours(messages_[i + distances[2]]);
        if (i + distances[3] < count) level(messages_[i + distances[3]]);
    }

  private:
    using Type = decode::Type;
    static Type type_of(const Message& m) {
        // A wrong length is looked at when the message is applied; here it only must not be read beyond its end.
        if (m.length == 0 || m.length != decode::length_of_type[m.data[0]]) return Type{0};
        return Type{m.data[0]};
    }
    static book::Side side_of(const decode::AddOrder& m) { return m.side() == 'B' ? book::Side::bid : book::Side::ask; }

    void index(const Message& message) const {
        switch (type_of(message)) {
            case Type::add_order:
            case Type::add_order_mpid: {
                const decode::AddOrder m{{message.data}};
                books_.prefetch_index(m.reference());
                books_.prefetch_block(m.instrument());
                books_.prefetch_keys(m.instrument(), side_of(m));
                break;
            }
            case Type::order_replace: {
                const decode::OrderReplace m{{message.data}};
                books_.prefetch_index(m.new_reference());
                books_.prefetch_index(m.old_reference());
                books_.prefetch_block(m.instrument());
                break;
            }
            case Type::order_executed:
            case Type::order_executed_with_price:
            case Type::order_cancel:
            case Type::order_delete: {
                const decode::OrderDelete m{{message.data}};
                books_.prefetch_index(m.reference());
                books_.prefetch_block(m.instrument());
                break;
            }
            default:
                break;
        }
    }

    void order(const Message& message) const {
        switch (type_of(message)) {
            case Type::add_order:
            case Type::add_order_mpid: {
                const decode::AddOrder m{{message.data}};
                books_.prefetch_level(m.instrument(), side_of(m), book::price_key(side_of(m), m.price()));
                break;
            }
            case Type::order_replace:
            case Type::order_executed:
            case Type::order_executed_with_price:
            case Type::order_cancel:
            case Type::order_delete:
                books_.prefetch_order(decode::OrderDelete{{message.data}}.reference());
                break;
            default:
                break;
        }
    }

    void neighbours(const Message& message) const {
        switch (type_of(message)) {
            case Type::add_order:
            case Type::add_order_mpid: {
                const decode::AddOrder m{{message.data}};
                books_.prefetch_tail(m.instrument(), side_of(m), book::price_key(side_of(m), m.price()));
                break;
            }
            case Type::order_replace:
            case Type::order_executed:
            case Type::order_executed_with_price:
            case Type::order_cancel:
            case Type::order_delete:
                books_.prefetch_neighbours(decode::OrderDelete{{message.data}}.reference());
                break;
            default:
                break;
        }
    }

    void level(const Message& message) const {
        switch (type_of(message)) {
            case Type::order_replace:
            case Type::order_executed:
            case Type::order_executed_with_price:
            case Type::order_cancel:
            case Type::order_delete:
                books_.prefetch_level_of(decode::OrderDelete{{message.data}}.reference());
                break;
            default:
                break;
        }
    }

    const book::BookSet& books_;
    std::span<const Message> messages_;
};

}  // namespace fh::record
