// The client's side of a snapshot: sequenced messages in, books on private memory out. Whole or not at all.
#pragma once

#include <cstdint>

#include "book/book_set.hpp"
#include "decode/types.hpp"
#include "record/buffer_publisher.hpp"
#include "record/normalizer.hpp"

namespace fh::snapshot {

class ImageReader {
  public:
    enum class Result { more, done, bad };

    explicit ImageReader(const book::BookLimits& limits, std::int64_t midnight_ns)
        : file_(book::books_file_size, book::Pages::small),
          normalizer_(publisher_, file_.data(), settings(limits, midnight_ns)) {}

    // One sequenced message. Bad: it has no place in a snapshot, or contradicts it.
    Result on_message(const Message& message) {
        if (message.length == 0 || result_ != Result::more) return result_ = Result::bad;
        if (message.data[0] == 'G') return result_ = on_end(message);
        if (!belongs(message)) return result_ = Result::bad;
        normalizer_.on_messages(++messages_, {&message, 1}, 0, TimestampKind::none);
        return result_;
    }

    // With Result::done only.
    std::uint64_t number() const { return number_; }  // of the feed's message that G told
    book::BookSet& books() { return normalizer_.books(); }
    std::uint64_t messages() const { return messages_; }

  private:
    static record::NormalizerSettings settings(const book::BookLimits& limits, std::int64_t midnight_ns) {
        record::NormalizerSettings out;
        out.limits = limits;
        out.midnight_ns = midnight_ns;
        return out;
    }

    // Directory, states, imbalance of retail orders, orders; never a change of an order or a trade.
    static bool belongs(const Message& message) {
        if (decode::length_of_type[message.data[0]] != message.length) return false;
        switch (decode::Type{message.data[0]}) {
            case decode::Type::order_executed:
            case decode::Type::order_executed_with_price:
            case decode::Type::order_cancel:
            case decode::Type::order_delete:
            case decode::Type::order_replace:
            case decode::Type::trade:
            case decode::Type::cross_trade:
            case decode::Type::broken_trade:
                return false;
            default:
                return true;
        }
    }

    // G: type, 20 digits with blanks or zeros around them; no ITCH header.
    Result on_end(const Message& message) {
        constexpr unsigned digits = 20;
        if (message.length != 1 + digits) return Result::bad;
        bool begun = false;
        bool ended = false;
        for (unsigned i = 1; i <= digits; ++i) {
            const std::uint8_t c = message.data[i];
            const bool digit = c >= '0' && c <= '9';
            if ((!digit && c != ' ') || (digit && ended)) return Result::bad;
            ended = begun && !digit;
            begun = begun || digit;
            if (!digit) continue;
            if (number_ > (~std::uint64_t{0} - 9) / 10) return Result::bad;
            number_ = number_ * 10 + (c - '0');
        }
        const FeedCounters counters = normalizer_.counters();
        const bool whole = number_ != 0 && counters.unknown_orders == 0 && counters.refused_orders == 0;
        return whole ? Result::done : Result::bad;
    }

    record::NullPublisher publisher_;
    book::Reserved<std::byte> file_;
    record::Normalizer<record::NullPublisher> normalizer_;
    std::uint64_t number_ = 0;
    std::uint64_t messages_ = 0;
    Result result_ = Result::more;
};

}  // namespace fh::snapshot
