// The server's side of a snapshot: follows a feed message by message, and writes the image of its books as of
// the last one, as GLIMPSE 5.0 tells it: directory, states, every displayed order in queue order, and the
// number of the first message that the image does not contain.
#pragma once

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "book/book_set.hpp"
#include "decode/fields.hpp"
#include "decode/orders.hpp"
#include "decode/types.hpp"
#include "frame/byte_order.hpp"
#include "record/buffer_publisher.hpp"
#include "record/normalizer.hpp"

namespace fh::snapshot {

class ImageWriter {
  public:
    // `first`: number of the first message of the feed.
    explicit ImageWriter(std::uint64_t first = 1)
        : file_(book::books_file_size, book::Pages::small),
          normalizer_(publisher_, file_.data(), {}),
          origins_(std::size_t{book::BookLimits{}.orders} + 1, book::Pages::small),
          states_(book::table_instruments, book::Pages::small),
          next_(first) {}

    // Number of the message that apply() expects: the image is as of the one before.
    std::uint64_t next_sequence() const { return next_; }
    // False once an order found no room: such an image would be a wrong book.
    bool complete() const { return normalizer_.counters().refused_orders == 0; }
    std::uint32_t orders() const { return normalizer_.books().live_orders(); }

    void apply(const Message& message) {
        const Origin old = origin_of_replaced(message);
        normalizer_.on_messages(next_++, {&message, 1}, 0, TimestampKind::none);
        if (message.length == 0 || decode::length_of_type[message.data[0]] != message.length) return;
        remember(message.data, old);
    }

    // SoupBinTCP packets of sequenced data, back to back.
    std::vector<std::uint8_t> image() {
        std::vector<std::uint8_t> out;
        out.reserve(std::size_t{orders()} * 40 + (std::size_t{1} << 16));
        for (unsigned kind = 0; kind < kinds; ++kind) {
            if (kind == 1) {
                for (const auto& event : system_events_) put(out, event.data(), event.size());
            }
            for (std::size_t i = 0; i < book::table_instruments; ++i) put_state(out, states_[i], kind);
        }
        for (std::size_t i = 0; i < book::table_instruments; ++i) {
            const auto instrument = static_cast<std::uint16_t>(i);
            put_orders(out, instrument, book::Side::bid);
            put_orders(out, instrument, book::Side::ask);
        }
        char end[22];
        std::snprintf(end, sizeof(end), "G%20llu", static_cast<unsigned long long>(next_));
        put(out, reinterpret_cast<const std::uint8_t*>(end), 21);
        return out;
    }

  private:
    // What a book does not keep of an order, and an Add Order message tells.
    struct Origin {
        std::uint8_t head[8];  // tracking number, timestamp
        char mpid[4];          // zeros: not attributed
    };
    // The last message of each kind: R, H, Y, h of three markets, N.
    static constexpr unsigned kinds = 7;
    static constexpr std::size_t most_bytes = 39;
    struct States {
        std::uint8_t length[kinds];
        bool named;
        std::uint8_t stock[8];
        std::uint8_t message[kinds][most_bytes];
    };

    static int kind_of(const std::uint8_t* p) {
        switch (decode::Type{p[0]}) {
            case decode::Type::stock_directory:
                return 0;
            case decode::Type::trading_action:
                return 1;
            case decode::Type::short_sale_restriction:
                return 2;
            case decode::Type::operational_halt:
                return p[19] == 'Q' ? 3 : p[19] == 'B' ? 4 : 5;
            case decode::Type::retail_interest:
                return 6;
            default:
                return -1;
        }
    }

    Origin origin_of_replaced(const Message& message) const {
        if (message.length != 35 || message.data[0] != 'U') return {};
        return origins_[normalizer_.books().find(decode::OrderReplace{{message.data}}.old_reference())];
    }

    void remember(const std::uint8_t* p, const Origin& old) {
        const decode::AnyMessage any{p};
        if (p[0] == 'S') return system_events_.push_back(to_array(p));
        if (const int kind = kind_of(p); kind >= 0) {
            States& states = states_[any.instrument()];
            states.length[kind] = decode::length_of_type[p[0]];
            std::memcpy(states.message[kind], p, states.length[kind]);
            if (kind == 0 || !states.named) name(states, p + 11);
        } else if (p[0] == 'A' || p[0] == 'F') {
            States& states = states_[any.instrument()];
            if (!states.named) name(states, p + 24);
            Origin origin{};
            if (p[0] == 'F') std::memcpy(origin.mpid, p + 36, 4);
            keep_origin(decode::AddOrder{{p}}.reference(), origin, p);
        } else if (p[0] == 'U') {
            keep_origin(decode::OrderReplace{{p}}.new_reference(), old, p);
        }
    }
    static void name(States& states, const std::uint8_t* stock) {
        std::memcpy(states.stock, stock, sizeof(states.stock));
        states.named = true;
    }
    void keep_origin(std::uint64_t reference, Origin origin, const std::uint8_t* p) {
        const std::uint32_t handle = normalizer_.books().find(reference);
        if (handle == 0) return;
        std::memcpy(origin.head, p + 3, sizeof(origin.head));
        origins_[handle] = origin;
    }
    static std::array<std::uint8_t, 12> to_array(const std::uint8_t* p) {
        std::array<std::uint8_t, 12> out;
        std::memcpy(out.data(), p, out.size());
        return out;
    }

    static void put(std::vector<std::uint8_t>& out, const std::uint8_t* message, std::size_t length) {
        out.push_back(static_cast<std::uint8_t>((length + 1) >> 8));
        out.push_back(static_cast<std::uint8_t>(length + 1));
        out.push_back('S');
        out.insert(out.end(), message, message + length);
    }
    static void put_state(std::vector<std::uint8_t>& out, const States& states, unsigned kind) {
        if (states.length[kind] != 0) put(out, states.message[kind], states.length[kind]);
    }

    void put_orders(std::vector<std::uint8_t>& out, std::uint16_t instrument, book::Side side) {
        book::BookSet& books = normalizer_.books();
        if (books.block(instrument).used[static_cast<unsigned>(side)] == 0) return;  // the best are in it
        books.for_each_level(instrument, side,
                             [&](std::uint32_t, std::uint64_t, std::uint32_t, std::uint32_t tail) {
                                 queue_.clear();
                                 for (std::uint32_t h = tail; h != 0; h = books.order(h).previous)
                                     queue_.push_back(h);
                                 for (auto h = queue_.rbegin(); h != queue_.rend(); ++h) put_order(out, *h);
                             });
    }
    void put_order(std::vector<std::uint8_t>& out, std::uint32_t handle) {
        const book::Order& order = normalizer_.books().order(handle);
        const Origin& origin = origins_[handle];
        const bool attributed = origin.mpid[0] != 0;
        std::uint8_t message[40];
        message[0] = attributed ? 'F' : 'A';
        store_be(message + 1, order.instrument, 2);
        std::memcpy(message + 3, origin.head, 8);
        store_be(message + 11, order.reference, 8);
        message[19] = order.side == book::Side::bid ? 'B' : 'S';
        store_be(message + 20, order.shares, 4);
        std::memcpy(message + 24, states_[order.instrument].stock, 8);
        store_be(message + 32, order.price(), 4);
        std::memcpy(message + 36, origin.mpid, 4);
        put(out, message, attributed ? 40 : 36);
    }
    static void store_be(std::uint8_t* to, std::uint64_t value, unsigned bytes) {
        for (unsigned i = 0; i < bytes; ++i)
            to[i] = static_cast<std::uint8_t>(value >> (8 * (bytes - 1 - i)));
    }

    record::NullPublisher publisher_;
    book::Reserved<std::byte> file_;
    record::Normalizer<record::NullPublisher> normalizer_;
    book::Reserved<Origin> origins_;  // by order handle
    book::Reserved<States> states_;   // by instrument
    std::vector<std::array<std::uint8_t, 12>> system_events_;
    std::vector<std::uint32_t> queue_;
    std::uint64_t next_;
};

}  // namespace fh::snapshot
