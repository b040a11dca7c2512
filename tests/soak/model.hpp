// Books written down once more: from the byte offsets of the specification (Nasdaq TotalView-ITCH 5.0), in
// maps, without a line of the feed handler's decoder or books. The stream it follows is lossless, so whatever
// contradicts it is an error of the stream.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

namespace soak {

struct ModelLevel {
    std::uint64_t size = 0;
    std::uint32_t orders = 0;
};

struct ModelBook {
    std::map<std::uint32_t, ModelLevel, std::greater<>> bids;  // price in 1e-4 dollars, best first
    std::map<std::uint32_t, ModelLevel> asks;
    std::uint64_t changed = 0;            // number of the last message that changed a level; 0: none
    char status = 0;                      // trading state as the exchange sent it last
    std::vector<std::uint8_t> directory;  // the last R and H message
    std::vector<std::uint8_t> action;
};

class Model {
  public:
    static constexpr std::size_t instruments = 65536;

    Model() : books_(instruments) {}

    // Message `number`, the one after the last. Returns the instrument it is about; 0: none.
    std::uint16_t apply(std::uint64_t number, std::span<const std::uint8_t> message) {
        if (number != next_++) throw std::logic_error("the model is fed out of order");
        const std::uint8_t* p = message.data();
        const auto instrument = static_cast<std::uint16_t>(number_at(p + 1, 2));
        switch (p[0]) {
            case 'R':
                books_[instrument].directory.assign(message.begin(), message.end());
                break;
            case 'H':
                books_[instrument].action.assign(message.begin(), message.end());
                books_[instrument].status = static_cast<char>(p[19]);
                break;
            case 'A':
            case 'F':
                add(number_at(p + 11, 8), {instrument, p[19] == 'B', shares_at(p + 20), price_at(p + 32), 0});
                break;
            case 'E':
            case 'C':
            case 'X':
                reduce(number_at(p + 11, 8), shares_at(p + 19));
                break;
            case 'D':
                remove(number_at(p + 11, 8));
                break;
            case 'U': {
                const Order old = remove(number_at(p + 11, 8));
                add(number_at(p + 19, 8), {old.instrument, old.buy, shares_at(p + 27), price_at(p + 31), 0});
                break;
            }
            default:
                break;
        }
        return instrument;
    }

    std::uint64_t next() const { return next_; }  // number of the message that apply() expects
    const ModelBook& book(std::uint16_t instrument) const { return books_[instrument]; }
    std::size_t orders() const { return orders_.size(); }

    // The image that a GLIMPSE server gives, as of the last message, without its G: function(bytes) for each
    // message. Directory and states, then every order, in the order of the queues.
    template <class Function>
    void image(Function&& function) const {
        for (const ModelBook& book : books_) {
            if (!book.directory.empty()) function(std::span(book.directory));
        }
        for (const ModelBook& book : books_) {
            if (!book.action.empty()) function(std::span(book.action));
        }
        std::vector<std::pair<std::uint64_t, Order>> all(orders_.begin(), orders_.end());
        std::sort(all.begin(), all.end(),
                  [](const auto& a, const auto& b) { return a.second.entered < b.second.entered; });
        for (const auto& [reference, order] : all) {
            std::uint8_t message[36] = {'A'};
            put(message + 1, order.instrument, 2);
            put(message + 11, reference, 8);
            message[19] = order.buy ? 'B' : 'S';
            put(message + 20, order.shares, 4);
            const ModelBook& book = books_[order.instrument];
            std::copy_n(book.directory.data() + 11, 8, message + 24);
            put(message + 32, order.price, 4);
            function(std::span<const std::uint8_t>(message));
        }
    }

  private:
    struct Order {
        std::uint16_t instrument;
        bool buy;
        std::uint32_t shares;
        std::uint32_t price;
        std::uint64_t entered;  // its place in time
    };

    static std::uint64_t number_at(const std::uint8_t* p, unsigned bytes) {
        std::uint64_t value = 0;
        for (unsigned i = 0; i < bytes; ++i) value = value << 8 | p[i];
        return value;
    }
    static std::uint32_t shares_at(const std::uint8_t* p) {
        return static_cast<std::uint32_t>(number_at(p, 4));
    }
    static std::uint32_t price_at(const std::uint8_t* p) { return shares_at(p); }
    static void put(std::uint8_t* p, std::uint64_t value, unsigned bytes) {
        for (unsigned i = 0; i < bytes; ++i) p[i] = static_cast<std::uint8_t>(value >> 8 * (bytes - 1 - i));
    }

    // The level of an order changes by so many shares and orders.
    void change(const Order& order, std::int64_t shares, int orders) {
        ModelBook& book = books_[order.instrument];
        book.changed = next_ - 1;
        const auto in = [&](auto& side) {
            const auto level = side.try_emplace(order.price).first;
            level->second.size += static_cast<std::uint64_t>(shares);
            level->second.orders += static_cast<std::uint32_t>(orders);
            if (level->second.orders == 0) side.erase(level);
        };
        order.buy ? in(book.bids) : in(book.asks);
    }
    void add(std::uint64_t reference, Order order) {
        order.entered = next_;
        if (!orders_.emplace(reference, order).second) contradiction("an order entered twice", reference);
        change(order, order.shares, 1);
    }
    void reduce(std::uint64_t reference, std::uint32_t shares) {
        Order& order = find(reference);
        if (shares > order.shares) contradiction("more shares taken than there were", reference);
        if (shares == order.shares) {
            remove(reference);
            return;
        }
        order.shares -= shares;
        change(order, -std::int64_t{shares}, 0);
    }
    Order remove(std::uint64_t reference) {
        const Order order = find(reference);
        change(order, -std::int64_t{order.shares}, -1);
        orders_.erase(reference);
        return order;
    }
    Order& find(std::uint64_t reference) {
        const auto found = orders_.find(reference);
        if (found == orders_.end()) contradiction("an order that does not exist", reference);
        return found->second;
    }
    [[noreturn]] void contradiction(const char* what, std::uint64_t reference) const {
        throw std::runtime_error("the lossless stream contradicts itself at message " +
                                 std::to_string(next_ - 1) + ": " + what + ", reference " +
                                 std::to_string(reference));
    }

    std::vector<ModelBook> books_;
    std::unordered_map<std::uint64_t, Order> orders_;
    std::uint64_t next_ = 1;
};

}  // namespace soak
