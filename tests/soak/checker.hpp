// Compares the published book table with the model, and the feed with the lossless stream. Trusts nothing
// that the feed handler says but its state: that is what is judged.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "book/table_reader.hpp"
#include "event.hpp"
#include "message.hpp"
#include "model.hpp"
#include "record/dbn.hpp"
#include "stream.hpp"

namespace soak {

struct Wrong : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct CheckCounts {
    std::uint64_t messages = 0;       // applied, all of them compared with the stream byte by byte
    std::uint64_t live_messages = 0;  // of them, in LIVE: their books were compared
    std::uint64_t books = 0;          // comparisons of a book, ten levels on both sides
    std::uint64_t records = 0;        // whose flag was compared with the state
    std::uint64_t record_levels = 0;  // mbp-10 records compared, ten levels on both sides
    std::uint64_t whole_tables = 0;   // comparisons of all books at once
};

class Checker {
  public:
    explicit Checker(CheckCounts& counts) : counts_(counts) {}

    // A daemon with a table of its own begins, or ends.
    void attach(const std::byte* books_file) {
        books_file_ = books_file;
        state_ = fh::FeedState::starting;
        stream_ = nullptr;
    }

    fh::FeedState state() const { return state_; }
    bool live() const { return state_ == fh::FeedState::live; }

    // ---- what the feed says

    void on_session(const Stream& stream, std::uint64_t first) {
        if (&stream != stream_) model_ = Model();
        stream_ = &stream;
        expected_ = first;
        whole_ = first == 1;
        lost_end_ = 0;
        changed_.clear();
    }
    void on_lost(std::uint64_t last) {
        lost_end_ = std::max(lost_end_, last + 1);
        whole_ = false;
    }
    void on_spliced(std::uint64_t first) { whole_ = lost_end_ <= first; }

    // The state is visible from now on.
    void on_state(fh::FeedState state) {
        const bool repaired = state_ != fh::FeedState::recovering;
        state_ = state;
        if (!live() && state != fh::FeedState::ended) return;
        if (live() && !whole_) wrong("LIVE although messages were lost and no snapshot has come");
        if (!whole_) return;
        if (!live() && expected_ != stream_->end()) wrong("ENDED before the end of the session");
        follow(expected_);
        repaired || !live() ? compare_all() : compare_changed();
    }

    // ---- what it does

    // Messages on their way to the books: the next ones, and those of the stream.
    void arriving(std::uint64_t first, std::span<const fh::Message> messages) {
        if (stream_ == nullptr || first != expected_)
            wrong("message " + std::to_string(first) + " follows " + std::to_string(expected_ - 1));
        if (first + messages.size() > stream_->end()) wrong("messages beyond the end of the session");
        for (std::size_t i = 0; i < messages.size(); ++i) {
            const auto true_bytes = stream_->message(first + i);
            if (messages[i].length != true_bytes.size() ||
                std::memcmp(messages[i].data, true_bytes.data(), true_bytes.size()) != 0)
                wrong("bytes of message " + std::to_string(first + i) + " are not those that were sent");
        }
        applying_ = true;
        expected_ = first + messages.size();
        counts_.messages += messages.size();
        if (live()) counts_.live_messages += messages.size();
    }
    // All messages below `end` are in the books.
    void applied(std::uint64_t end) {
        applying_ = false;
        follow(end);
        if (!live()) return;
        compare_changed();
        if (end < whole_table_at_ && end + whole_table_every() > whole_table_at_) return;
        whole_table_at_ = end + whole_table_every();
        compare_all();
    }
    // The numbers up to `last` were lost and the books are empty: the feed goes on behind them.
    void on_clear(std::uint64_t last) { expected_ = last + 1; }

    // After each call of the feed handler. `revealed`: one past the highest number that any packet told.
    void settled(std::uint64_t next, std::uint64_t revealed) {
        if (!live()) return;
        if (next != expected_) wrong("LIVE, and next_sequence is " + std::to_string(next));
        if (revealed > expected_)
            wrong("LIVE although message " + std::to_string(revealed - 1) + " is known to exist");
    }

    // ---- records

    // A record is written; visible soon.
    void on_record(fh::dbn::Schema schema, const std::byte* body, bool void_book) {
        using fh::dbn::Schema;
        ++counts_.records;
        std::uint8_t flags;
        if (schema == Schema::mbo)
            flags = read<fh::dbn::Mbo>(body).flags;
        else if (schema <= Schema::trades)
            flags = read<fh::dbn::Trade>(body).flags;
        else
            return;
        const bool flagged = (flags & fh::dbn::f_maybe_bad_book) != 0;
        if (flagged != (void_book || !live()))
            wrong(std::string(fh::dbn::schema_names[static_cast<std::size_t>(schema)]) + " record " +
                  (flagged ? "with" : "without") + " F_MAYBE_BAD_BOOK");
    }
    // The records of a message became visible: the books must be as after it.
    void on_commit(std::uint32_t sequence, const fh::dbn::Mbp10* levels) {
        if (!live() || !applying_) return;
        follow(std::uint64_t{sequence} + 1);
        compare_changed();
        if (levels != nullptr) compare_record(*levels);
    }

    [[noreturn]] void wrong(const std::string& what) const {
        static constexpr const char* names[] = {"STARTING", "LIVE", "RECOVERING", "STALE", "ENDED"};
        throw Wrong(what + " (state " + names[static_cast<std::size_t>(state_)] + ", message " +
                    std::to_string(expected_ - 1) + ")");
    }

  private:
    template <class Record>
    static Record read(const std::byte* body) {
        Record record;
        std::memcpy(&record, body, sizeof record);
        return record;
    }

    // The model applies every message below `end`, whatever became of it in the feed.
    void follow(std::uint64_t end) {
        while (model_.next() < end) {
            const std::uint64_t number = model_.next();
            const std::uint16_t instrument = model_.apply(number, stream_->message(number));
            if (instrument == 0) continue;
            most_ = std::max(most_, instrument);
            if (changed_.empty() || changed_.back() != instrument) changed_.push_back(instrument);
        }
    }

    std::uint64_t whole_table_every() const { return std::max<std::uint64_t>(4096, 32u * most_); }

    void compare_changed() {
        for (const std::uint16_t instrument : changed_) compare(instrument);
        changed_.clear();
    }
    void compare_all() {
        ++counts_.whole_tables;
        for (std::uint16_t instrument = 1; instrument <= most_; ++instrument) compare(instrument);
        changed_.clear();
    }

    void compare(std::uint16_t instrument) {
        ++counts_.books;
        const ModelBook& expected = model_.book(instrument);
        fh::BookView view;
        const fh::ReadResult result = fh::read_book(books_file_, instrument, view);
        if (result != fh::ReadResult::ok) {
            if (!expected.directory.empty()) wrong_book(instrument, "cannot be read");
            return;
        }
        if (view.incomplete) wrong_book(instrument, "is marked incomplete");
        if (view.sequence < expected.changed || view.sequence >= expected_)
            wrong_book(instrument, "is of message " + std::to_string(view.sequence) +
                                       ", its last change was by " + std::to_string(expected.changed));
        if (view.trading_status != expected.status) wrong_book(instrument, "has a wrong trading status");
        compare_side(instrument, "bid", std::span(view.bids).first(view.bid_count), expected.bids);
        compare_side(instrument, "ask", std::span(view.asks).first(view.ask_count), expected.asks);
    }

    template <class Side>
    void compare_side(std::uint16_t instrument, const char* name, std::span<const fh::BookLevel> levels,
                      const Side& expected) {
        if (levels.size() != std::min<std::size_t>(expected.size(), 10))
            wrong_book(instrument, std::string("has ") + std::to_string(levels.size()) + ' ' + name +
                                       " levels instead of " + std::to_string(expected.size()));
        auto truth = expected.begin();
        for (const fh::BookLevel& level : levels) {
            const auto& [price, rest] = *truth++;
            if (level.price != std::int64_t{price} * 100'000 || level.size != rest.size ||
                level.orders != rest.orders)
                wrong_book(instrument, std::string("has a wrong ") + name + " level at rank " +
                                           std::to_string(&level - levels.data()));
        }
    }
    [[noreturn]] void wrong_book(std::uint16_t instrument, const std::string& what) const {
        wrong("the book of instrument " + std::to_string(instrument) + ' ' + what);
    }

    void compare_record(const fh::dbn::Mbp10& record) {
        ++counts_.record_levels;
        const auto instrument = static_cast<std::uint16_t>(record.event.hd.instrument_id);
        const ModelBook& book = model_.book(instrument);
        auto bid = book.bids.begin();
        auto ask = book.asks.begin();
        for (const fh::dbn::BidAskPair& level : record.levels) {
            const bool right = same(level.bid_px, level.bid_sz, level.bid_ct, bid, book.bids.end()) &&
                               same(level.ask_px, level.ask_sz, level.ask_ct, ask, book.asks.end());
            if (!right) wrong_book(instrument, "is told wrong by an mbp-10 record");
        }
    }
    template <class Iterator>
    static bool same(std::int64_t price, std::uint32_t size, std::uint32_t orders, Iterator& level,
                     Iterator end) {
        if (level == end) return price == fh::dbn::undef_price && size == 0 && orders == 0;
        const auto& [true_price, rest] = *level++;
        return price == std::int64_t{true_price} * 100'000 && orders == rest.orders &&
               size == std::min<std::uint64_t>(rest.size, ~std::uint32_t{0});
    }

    CheckCounts& counts_;
    const std::byte* books_file_ = nullptr;
    const Stream* stream_ = nullptr;
    Model model_;
    std::uint64_t expected_ = 1;  // number that the feed must bring next
    fh::FeedState state_ = fh::FeedState::starting;
    bool whole_ = false;          // nothing was lost that a snapshot has not brought back
    std::uint64_t lost_end_ = 0;  // one past the last number lost
    bool applying_ = false;
    std::vector<std::uint16_t> changed_;  // since they were compared
    std::uint16_t most_ = 0;              // highest instrument id
    std::uint64_t whole_table_at_ = 0;
};

// The publisher of records: gives room, and shows each record to the checker when it is written.
class RecordWatch {
  public:
    explicit RecordWatch(Checker& checker) : checker_(checker) {}

    void* claim(fh::dbn::Schema schema, std::uint32_t sequence) {
        show();
        schema_ = schema;
        sequence_ = sequence;
        std::byte* room = schema == fh::dbn::Schema::mbp_10 ? levels_ : body_;
        written_ = room;
        has_levels_ = has_levels_ || room == levels_;
        return room;
    }
    void commit() {
        show();
        fh::dbn::Mbp10 levels;
        if (has_levels_) std::memcpy(&levels, levels_, sizeof levels);
        checker_.on_commit(sequence_, has_levels_ ? &levels : nullptr);
        has_levels_ = false;
    }
    static constexpr std::uint32_t schema_mask() { return (1u << fh::dbn::schema_count) - 1; }
    void set_clearing(bool clearing) { clearing_ = clearing; }

  private:
    void show() {
        if (written_ != nullptr) checker_.on_record(schema_, written_, clearing_);
        written_ = nullptr;
    }

    Checker& checker_;
    alignas(8) std::byte body_[520];
    alignas(8) std::byte levels_[sizeof(fh::dbn::Mbp10)];
    fh::dbn::Schema schema_{};
    std::uint32_t sequence_ = 0;
    std::byte* written_ = nullptr;  // not yet shown
    bool has_levels_ = false;
    bool clearing_ = false;
};

}  // namespace soak
