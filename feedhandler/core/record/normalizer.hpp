// Decoded messages into books and normalized records: the one place that knows what a message of the venue
// does to a book.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "book/book_set.hpp"
#include "decode/auctions.hpp"
#include "decode/instruments.hpp"
#include "decode/orders.hpp"
#include "decode/trades.hpp"
#include "decode/types.hpp"
#include "event.hpp"
#include "message.hpp"
#include "publish/counters.hpp"
#include "record/dbn.hpp"
#include "record/look_ahead.hpp"
#include "record/trading_event.hpp"
#include "record/writer.hpp"

namespace fh::record {

struct NormalizerSettings {
    std::int64_t midnight_ns = 0;  // UTC ns of 00:00 exchange time of the trading day
    std::uint16_t publisher_id = 2;
    std::string exchange = "XNAS";     // MIC, in definition records
    std::vector<std::string> symbols;  // whose records are wanted; empty: all. Books are kept for all
    bool trading_events = false;       // publish what DBN records have no field for, as native events
    book::BookLimits limits;
};

// Publisher: void* claim(dbn::Schema, std::uint32_t sequence_low); void commit(); std::uint32_t schema_mask()
// const.
template <class Publisher>
class Normalizer {
  public:
    // `books_file`: zeroed memory of book::books_file_size bytes, the shared table. It, the settings' memory
    // and the publisher outlive the normalizer.
    Normalizer(Publisher& publisher, std::byte* books_file, const NormalizerSettings& settings)
        : publisher_(publisher), books_(books_file, settings.limits), ahead_(books_), settings_(settings) {
        for (const std::string& symbol : settings.symbols) wanted_.push_back(padded(symbol));
        stamp_.publisher_id = settings.publisher_id;
    }

    void set_state(FeedState state) { state_ = state; }
    // UTC ns of 00:00 exchange time: a new session may be a new trading day.
    void set_midnight(std::int64_t midnight_ns) { settings_.midnight_ns = midnight_ns; }
    FeedCounters counters() const {
        FeedCounters out = counters_;
        out.orders = books_.live_orders();
        return out;
    }
    book::BookSet& books() { return books_; }
    const book::BookSet& books() const { return books_; }

    // What the next calls of on_messages() will bring, a burst of packets: what it needs is asked for at
    // once. Good for the first LookAhead::batch messages; a wrong forecast costs time only.
    void on_lookahead(std::span<const Message> messages) {
        fetched_ = std::min(messages.size(), LookAhead::batch);
        ahead_.fetch(messages.first(fetched_), publisher_.schema_mask() != 0);
    }

    // Messages with consecutive numbers, in feed order. No record of a message is visible before the books
    // are as after it.
    void on_messages(std::uint64_t first_sequence, std::span<const Message> messages, std::int64_t ts_recv_ns,
                     TimestampKind kind) {
        stamp_.ts_recv_ns = ts_recv_ns;
        time_quality_ = is_doubtful(kind) ? dbn::f_bad_ts_recv : 0;
        counters_.messages += messages.size();
        while (!messages.empty()) {
            const auto batch = messages.first(std::min(messages.size(), LookAhead::batch));
            if (batch.size() <= fetched_) {
                fetched_ -= batch.size();
            } else if (batch.size() == 1) {
                ahead_.fetch_book(batch[0]);
            } else {
                ahead_.fetch(batch, publisher_.schema_mask() != 0);
            }
            for (const Message& message : batch) {  // apply's one caller, so that it is inlined
                apply(first_sequence, message);
                if (settings_.trading_events) tell_trading(first_sequence, message);
                ++first_sequence;
            }
            messages = messages.subspan(batch.size());
        }
    }

    // All books are void: messages up to `sequence` are lost for good (0: a new session starts). Told for
    // every instrument that had an order since the last time.
    void on_clear(std::uint64_t sequence, std::int64_t ts_ns) {
        stamp_ = {sequence, ts_ns, ts_ns, settings_.publisher_id, dbn::f_maybe_bad_book};
        books_.table().for_each_named([&](std::uint16_t instrument) { clear_book(instrument); });
        books_.clear_orders();
        if (sequence == 0) start_session();
    }

    // The books become those of `image`, a snapshot of everything before `first_to_apply`; `covered` of these
    // messages were lost and never came. Each book that was or is not empty is told anew. A slice in one
    // call: false until all are done, to be called again (covered = 0) with nothing applied in between. Then
    // `image` has the orders that were here, and is to be destroyed.
    bool on_snapshot(book::BookSet& image, std::uint64_t first_to_apply, std::uint64_t covered,
                     std::int64_t ts_ns) {
        counters_.messages += covered;
        if (rebuilt_ == 0) begin_snapshot(image);
        const std::uint32_t count = books_.table().symbols();
        for (std::uint64_t work = 0; rebuilt_ < count && work < snapshot_slice; ++rebuilt_) {
            const auto instrument = static_cast<std::uint16_t>(books_.table().entry(rebuilt_).instrument_id);
            work += book_work + rebuild_book(instrument, image.block(instrument), first_to_apply - 1, ts_ns);
        }
        if (rebuilt_ < count) return false;
        rebuilt_ = 0;
        return true;
    }

  private:
    using Type = decode::Type;
    using Side = book::Side;
    static constexpr unsigned all_levels = 0;  // a rank that every view covers
    // Orders told in one call, about half a millisecond's worth; to copy a book costs as much as several.
    static constexpr std::uint64_t snapshot_slice = 16'384, book_work = 16;

    // The trading states of the session before say nothing of this one.
    void start_session() {
        books_.table().for_each_named([&](std::uint16_t instrument) {
            book::Block& block = books_.block(instrument);
            book::TableWriter::begin(block);
            book::store(block.trading_status, '\0');
            end(block);
        });
        books_.table().start_session();
    }

    void clear_book(std::uint16_t instrument) {
        book::Block& block = books_.block(instrument);
        const bool touched = (block.flags & book::block_touched) != 0;
        const bool new_session = stamp_.sequence == 0;  // what the old one told of number and status is void
        if (!touched && !new_session) return;
        book::TableWriter::begin(block);
        books_.clear_book(instrument);
        if (new_session) book::store(block.trading_status, '\0');
        end(block);
        if (!touched || !wanted(block)) return;
        stamp_.quality = dbn::f_maybe_bad_book;  // whatever the state: what was in the book is void
        mbo(instrument, 'R', 'N', 0, dbn::undef_price, 0, dbn::f_last);
        levels(instrument, block, {}, all_levels);
        publisher_.commit();
    }

    void begin_snapshot(book::BookSet& image) {
        for (std::uint32_t i = 0; i < image.table().symbols(); ++i) {
            const book::DirectoryEntry& entry = image.table().entry(i);
            const auto instrument = static_cast<std::uint16_t>(entry.instrument_id);
            const bool known = (books_.block(instrument).flags & book::block_known) != 0;
            if (!known || books_.table().ids_may_move())
                set_name(books_.block(instrument), instrument, entry.symbol);
        }
        books_.swap_orders(image);
    }

    // Returns how many orders were told.
    std::uint64_t rebuild_book(std::uint16_t instrument, book::Block& from, std::uint64_t sequence,
                               std::int64_t ts_ns) {
        book::Block& block = books_.block(instrument);
        const bool told = ((block.flags | from.flags) & book::block_touched) != 0;
        stamp_ = {sequence, from.ts_event_ns != 0 ? from.ts_event_ns : ts_ns, ts_ns, settings_.publisher_id,
                  0};
        book::TableWriter::begin(block);
        book::TableWriter::copy_book(block, from);
        end(block);
        if (!told || !wanted(block)) return 0;
        stamp_.quality = dbn::f_snapshot | dbn::f_bad_ts_recv | dbn::f_maybe_bad_book;
        const std::uint64_t orders = publishes(dbn::Schema::mbo) ? tell_orders(instrument) : 0;
        levels(instrument, block, {}, all_levels);
        publisher_.commit();
        return orders;
    }

    // R, then every order, bids first, better levels first, in the order of the queues. Returns how many.
    std::uint64_t tell_orders(std::uint16_t instrument) {
        std::uint64_t left = 0;
        for (const Side side : {Side::bid, Side::ask}) {
            books_.for_each_level(
                instrument, side,
                [&](std::uint32_t, std::uint64_t, std::uint32_t orders, std::uint32_t) { left += orders; });
        }
        const std::uint64_t told = left;
        mbo(instrument, 'R', 'N', 0, dbn::undef_price, 0, left == 0 ? dbn::f_last : 0);
        for (const Side side : {Side::bid, Side::ask}) {
            books_.for_each_level(
                instrument, side,
                [&](std::uint32_t price, std::uint64_t, std::uint32_t orders, std::uint32_t tail) {
                    std::uint32_t handle = tail;
                    while (books_.order(handle).previous != 0) handle = books_.order(handle).previous;
                    for (; orders != 0; --orders, handle = books_.order(handle).next) {
                        const book::Order& order = books_.order(handle);
                        mbo(instrument, 'A', letter(side), order.reference, price_1e9(price), order.shares,
                            --left == 0 ? dbn::f_last : 0);
                    }
                });
        }
        return told;
    }

    void apply(std::uint64_t sequence, const Message& message) {
        if (message.length == 0) return;
        const std::uint8_t* p = message.data;
        const std::uint8_t length = decode::length_of_type[p[0]];
        if (length != message.length) [[unlikely]] {
            ++(length == 0 ? counters_.unknown_messages : counters_.malformed_messages);
            return;
        }
        const decode::AnyMessage any{p};
        stamp_.sequence = sequence;
        stamp_.ts_event_ns = settings_.midnight_ns + static_cast<std::int64_t>(any.timestamp_ns());
        switch (Type{p[0]}) {
            case Type::add_order:
            case Type::add_order_mpid:
                return add({{p}});
            case Type::order_delete:
                return remove({{p}});
            case Type::order_replace:
                return replace({{p}});
            case Type::order_executed:
                return execute({{p}});
            case Type::order_executed_with_price:
                return execute_with_price({{{p}}});
            case Type::order_cancel:
                return cancel({{p}});
            case Type::trade:
                return trade({{p}});
            case Type::cross_trade:
                return cross({{p}});
            case Type::imbalance:
                return imbalance({{p}});
            case Type::stock_directory:
                return directory({{p}});
            case Type::trading_action:
                return trading_action({{p}});
            case Type::operational_halt:
                return operational_halt({{p}});
            case Type::short_sale_restriction:
                return short_sale_restriction({{p}});
            case Type::participant_position:
                return name(any.instrument(), decode::ParticipantPosition{{p}}.stock());
            case Type::ipo_quoting_period:
            case Type::auction_collar:
            case Type::retail_interest:
            case Type::direct_listing:
                return name(any.instrument(), decode::alpha8(p + 11));
            case Type::system_event:
            case Type::decline_levels:
            case Type::decline_status:
            case Type::broken_trade:
                return;
        }
    }

    // DBN records of the message are out; what they have no field for follows them.
    void tell_trading(std::uint64_t sequence, const Message& message) {
        const std::uint8_t* p = message.data;
        if (message.length == 0 || decode::length_of_type[p[0]] != message.length) return;
        TradingEvent event{};
        if (!fill_trading(event, p) || !wanted(books_.block(decode::AnyMessage{p}.instrument()))) return;
        event.ts_ns = settings_.midnight_ns + static_cast<std::int64_t>(decode::AnyMessage{p}.timestamp_ns());
        event.sequence = sequence;
        event.type = EventType::trading;
        event.state = state_;
        void* memory = publisher_.claim(dbn::Schema::event, static_cast<std::uint32_t>(sequence));
        std::memcpy(memory, &event, sizeof(event));
        publisher_.commit();
    }

    // ---- orders

    void add(decode::AddOrder m) {
        const std::uint16_t instrument = m.instrument();
        name(instrument, m.stock());
        const Side side = m.side() == 'B' ? Side::bid : Side::ask;
        book::BookSet::Place place;
        const std::uint32_t live = books_.find(m.reference(), place);
        if (live != 0) [[unlikely]]
            return add_over_live(m, instrument, side, live);
        book::Block& block = books_.block(instrument);
        book::TableWriter::begin(block);
        const unsigned rank = books_.add(m.reference(), instrument, side, m.price(), m.shares(), &place);
        end(block);
        if (rank == book::BookSet::refused) [[unlikely]]
            return refused();
        if (!wanted(block)) return;
        added(instrument, block, m.reference(), side, m.price(), m.shares(), rank, rank);
        publisher_.commit();
    }

    void remove(decode::OrderDelete m) {
        book::BookSet::Place place;
        const std::uint32_t handle = books_.find(m.reference(), place);
        if (handle == 0) [[unlikely]]
            return unknown_order();
        const book::Order order = books_.order(handle);
        book::Block& block = books_.block(order.instrument);
        book::TableWriter::begin(block);
        const unsigned rank = books_.remove(handle, &place);
        end(block);
        if (!wanted(block)) return;
        cancelled(order, order.shares, dbn::f_last);
        levels(order.instrument, block,
               {price_1e9(order.price()), order.shares, 'C', letter(order.side), rank}, rank);
        publisher_.commit();
    }

    void cancel(decode::OrderCancel m) {
        book::BookSet::Place place;
        const std::uint32_t handle = books_.find(m.reference(), place);
        if (handle == 0) [[unlikely]]
            return unknown_order();
        take_off(handle, at_most(m.shares(), books_.order(handle).shares), &place);
    }

    void take_off(std::uint32_t handle, std::uint32_t shares, const book::BookSet::Place* place) {
        const book::Order order = books_.order(handle);
        book::Block& block = books_.block(order.instrument);
        book::TableWriter::begin(block);
        const unsigned rank = books_.take(handle, shares, place);
        end(block);
        if (!wanted(block)) return;
        cancelled(order, shares, dbn::f_last);
        levels(order.instrument, block, {price_1e9(order.price()), shares, 'C', letter(order.side), rank},
               changes(order, shares) ? rank : book::rank_deep);
        publisher_.commit();
    }

    void execute(decode::OrderExecuted m) {
        book::BookSet::Place place;
        const std::uint32_t handle = books_.find(m.reference(), place);
        if (handle == 0) [[unlikely]]
            return unknown_order();
        fill(handle, m.shares(), true, books_.order(handle).price(), place);
    }

    void execute_with_price(decode::OrderExecutedWithPrice m) {
        book::BookSet::Place place;
        const std::uint32_t handle = books_.find(m.reference(), place);
        if (handle == 0) [[unlikely]]
            return unknown_order();
        fill(handle, m.shares(), m.printable(), m.price(), place);
    }

    void fill(std::uint32_t handle, std::uint32_t wanted_shares, bool printable, std::uint32_t price,
              const book::BookSet::Place& place) {
        const book::Order order = books_.order(handle);
        const std::uint32_t shares = at_most(wanted_shares, order.shares);
        book::Block& block = books_.block(order.instrument);
        book::TableWriter::begin(block);
        const unsigned rank = books_.take(handle, shares, &place);
        end(block);
        if (!wanted(block)) return;
        const std::int64_t trade_price = price_1e9(price);
        const char aggressor = order.side == Side::bid ? 'A' : 'B';
        if (printable) mbo(order.instrument, 'T', aggressor, 0, trade_price, shares, 0);
        mbo(order.instrument, 'F', letter(order.side), order.reference, trade_price, shares, 0);
        cancelled(order, shares, dbn::f_last);
        if (printable) {
            traded(order.instrument, block, {trade_price, shares, 'T', aggressor, rank});
        } else {
            levels(order.instrument, block, {price_1e9(order.price()), shares, 'C', letter(order.side), rank},
                   changes(order, shares) ? rank : book::rank_deep);
        }
        publisher_.commit();
    }

    void replace(decode::OrderReplace m) {
        const std::uint32_t handle = books_.find(m.old_reference());
        if (handle == 0) [[unlikely]]
            return unknown_order();
        const book::Order order = books_.order(handle);
        const std::uint32_t live =
            m.new_reference() == m.old_reference() ? 0 : books_.find(m.new_reference());
        if (live != 0) [[unlikely]]
            return replace_over_live(m, handle, live);
        book::Block& block = books_.block(order.instrument);
        book::TableWriter::begin(block);
        const unsigned old_rank = books_.take(handle, order.shares);
        const unsigned rank =
            books_.add(m.new_reference(), order.instrument, order.side, m.price(), m.shares());
        end(block);
        const bool gone = rank == book::BookSet::refused;  // the new order found no room
        if (gone) [[unlikely]]
            refused();
        if (!wanted(block)) return;
        cancelled(order, order.shares, gone ? dbn::f_last : 0);
        if (gone) [[unlikely]] {
            levels(order.instrument, block,
                   {price_1e9(order.price()), order.shares, 'C', letter(order.side), old_rank}, old_rank);
            return publisher_.commit();
        }
        const bool same =
            m.price() == order.price() && m.shares() == order.shares;  // the levels are as they were
        added(order.instrument, block, m.new_reference(), order.side, m.price(), m.shares(),
              rank < book::view_levels ? rank : old_rank, same ? book::rank_deep : std::min(rank, old_rank));
        publisher_.commit();
    }

    // ---- messages that contradict the books: rare, told as exactly as the rest

    // The levels a view covers, to see whether a message of several steps changed them in the end.
    struct View {
        std::array<dbn::BidAskPair, book::view_levels> levels;
        std::array<std::uint64_t, book::view_levels * 2> sizes;  // not clamped

        explicit View(book::Block& block) {
            for (unsigned rank = 0; rank < book::view_levels; ++rank) {
                fill_level(levels[rank], block, rank);
                for (unsigned s = 0; s < 2; ++s) {
                    const book::Node node = block.side(s);
                    sizes[rank * 2 + s] = rank < node.size() ? node.level_at(rank).size : 0;
                }
            }
        }
        // Best rank at which the two differ.
        unsigned first_difference(const View& other) const {
            for (unsigned rank = 0; rank < book::view_levels; ++rank) {
                if (std::memcmp(&levels[rank], &other.levels[rank], sizeof(levels[rank])) != 0) return rank;
                if (sizes[rank * 2] != other.sizes[rank * 2] ||
                    sizes[rank * 2 + 1] != other.sizes[rank * 2 + 1])
                    return rank;
            }
            return book::rank_deep;
        }
    };

    // An order of a reference that is to be used again leaves first, in a record of its own when it is
    // another instrument's.
    void drop_live(std::uint32_t live, std::uint16_t instrument) {
        const book::Order old = books_.order(live);
        unknown_order();
        if (old.instrument != instrument) return take_off(live, old.shares, nullptr);
        books_.take(live, old.shares);
        if (wanted(books_.block(instrument))) cancelled(old, old.shares, 0);
    }

    void add_over_live(decode::AddOrder m, std::uint16_t instrument, Side side, std::uint32_t live) {
        book::Block& block = books_.block(instrument);
        const View before(block);
        book::TableWriter::begin(block);
        drop_live(live, instrument);
        finish_over_live(block, before, instrument, m.reference(), side, m.price(), m.shares());
    }

    void replace_over_live(decode::OrderReplace m, std::uint32_t handle, std::uint32_t live) {
        const book::Order order = books_.order(handle);
        book::Block& block = books_.block(order.instrument);
        const View before(block);
        book::TableWriter::begin(block);
        books_.take(handle, order.shares);
        if (wanted(block)) cancelled(order, order.shares, 0);
        drop_live(live, order.instrument);
        finish_over_live(block, before, order.instrument, m.new_reference(), order.side, m.price(),
                         m.shares());
    }

    void finish_over_live(book::Block& block, const View& before, std::uint16_t instrument,
                          std::uint64_t reference, Side side, std::uint32_t price, std::uint32_t shares) {
        const unsigned rank = books_.add(reference, instrument, side, price, shares);
        end(block);
        const bool gone = rank == book::BookSet::refused;
        if (gone) [[unlikely]]
            refused();
        if (!wanted(block)) return;
        const unsigned changed = before.first_difference(View(block));
        if (gone) [[unlikely]] {
            levels(instrument, block, {price_1e9(price), 0, 'C', letter(side), changed}, changed);
            return publisher_.commit();
        }
        added(instrument, block, reference, side, price, shares, rank < book::view_levels ? rank : changed,
              changed);
        publisher_.commit();
    }

    // ---- prints and states

    void trade(decode::Trade m) {
        name(m.instrument(), m.stock());
        print(m.instrument(), m.price(), m.shares());
    }

    void cross(decode::CrossTrade m) {
        name(m.instrument(), m.stock());
        if (m.shares() == 0) return;  // no cross happened
        print(m.instrument(), m.price(), clamp_size(m.shares()));
    }

    void print(std::uint16_t instrument, std::uint32_t price, std::uint32_t shares) {
        book::Block& block = books_.block(instrument);
        if (!wanted(block)) return;
        mbo(instrument, 'T', 'N', 0, price_1e9(price), shares, dbn::f_last);
        traded(instrument, block, {price_1e9(price), shares, 'T', 'N', 0});
        publisher_.commit();
    }

    void imbalance(decode::Imbalance m) {
        name(m.instrument(), m.stock());
        auto* out =
            state_record<dbn::Imbalance>(m.instrument(), dbn::Schema::imbalance, dbn::RType::imbalance);
        if (out == nullptr) return;
        fill_imbalance(*out, m);
        publisher_.commit();
    }

    void directory(decode::StockDirectory m) {
        book::Block& block = books_.block(m.instrument());
        set_name(block, m.instrument(), m.stock());
        auto* out =
            state_record<dbn::InstrumentDef>(m.instrument(), dbn::Schema::definition, dbn::RType::definition);
        if (out == nullptr) return;
        fill_definition(*out, m, settings_.exchange);
        publisher_.commit();
    }

    void trading_action(decode::TradingAction m) {
        name(m.instrument(), m.stock());
        book::Block& block = books_.block(m.instrument());
        book::TableWriter::begin(block);
        book::store(block.trading_status, m.state());
        book::TableWriter::end(block, block.sequence, block.ts_event_ns);
        status(m);
    }
    void operational_halt(decode::OperationalHalt m) {
        name(m.instrument(), m.stock());
        status(m);
    }
    void short_sale_restriction(decode::ShortSaleRestriction m) {
        name(m.instrument(), m.stock());
        status(m);
    }

    template <class StateMessage>
    void status(StateMessage m) {
        auto* out = state_record<dbn::Status>(m.instrument(), dbn::Schema::status, dbn::RType::status);
        if (out == nullptr) return;
        fill_status(*out, m);
        publisher_.commit();
    }

    template <class Record>
    Record* state_record(std::uint16_t instrument, dbn::Schema schema, dbn::RType rtype) {
        if (!publishes(schema) || !wanted(books_.block(instrument))) return nullptr;
        Record& out =
            begin_record<Record>(publisher_.claim(schema, stamp_.sequence_low()), rtype, stamp_, instrument);
        out.ts_recv = static_cast<std::uint64_t>(stamp_.ts_recv_ns);
        return &out;
    }

    // ---- records

    bool publishes(dbn::Schema schema) const {
        return (publisher_.schema_mask() & dbn::schema_bit(schema)) != 0;
    }

    void mbo(std::uint16_t instrument, char action, char side, std::uint64_t order_id, std::int64_t price,
             std::uint32_t size, unsigned flags) {
        if (publishes(dbn::Schema::mbo)) write_mbo(instrument, action, side, order_id, price, size, flags);
    }
    // Records are written out of line: in every message's code they would crowd the books' out of the cache.
    [[gnu::noinline]] void write_mbo(std::uint16_t instrument, char action, char side, std::uint64_t order_id,
                                     std::int64_t price, std::uint32_t size, unsigned flags) {
        void* memory = publisher_.claim(dbn::Schema::mbo, stamp_.sequence_low());
        auto& out = begin_record<dbn::Mbo>(memory, dbn::RType::mbo, stamp_, instrument);
        out.order_id = order_id;
        out.price = price;
        out.size = size;
        out.flags = static_cast<std::uint8_t>(flags | stamp_.quality);
        out.channel_id = 0;
        out.action = action;
        out.side = side;
        out.ts_recv = static_cast<std::uint64_t>(stamp_.ts_recv_ns);
        out.ts_in_delta = stamp_.ts_in_delta();
        out.sequence = stamp_.sequence_low();
    }

    void cancelled(const book::Order& order, std::uint32_t shares, unsigned flags) {
        mbo(order.instrument, 'C', letter(order.side), order.reference, price_1e9(order.price()), shares,
            flags);
    }

    void added(std::uint16_t instrument, book::Block& block, std::uint64_t reference, Side side,
               std::uint32_t price, std::uint32_t shares, unsigned rank, unsigned changed) {
        mbo(instrument, 'A', letter(side), reference, price_1e9(price), shares, dbn::f_last);
        levels(instrument, block, {price_1e9(price), shares, 'A', letter(side), rank}, changed);
    }

    void traded(std::uint16_t instrument, book::Block& block, const Action& action) {
        if (publishes(dbn::Schema::trades)) {
            void* memory = publisher_.claim(dbn::Schema::trades, stamp_.sequence_low());
            auto& out = begin_record<dbn::Trade>(memory, dbn::RType::mbp_0, stamp_, instrument);
            fill_action(out, stamp_, action, book::view_levels);
        }
        levels(instrument, block, action, all_levels);
    }

    // Of the views that cover rank `changed`, the best one at which something changed.
    void levels(std::uint16_t instrument, book::Block& block, const Action& action, unsigned changed) {
        if (changed < 1 && publishes(dbn::Schema::mbp_1)) write_mbp_1(instrument, block, action);
        if (changed < book::view_levels && publishes(dbn::Schema::mbp_10))
            write_mbp_10(instrument, block, action);
    }
    [[gnu::noinline]] void write_mbp_1(std::uint16_t instrument, book::Block& block, const Action& action) {
        void* memory = publisher_.claim(dbn::Schema::mbp_1, stamp_.sequence_low());
        auto& out = begin_record<dbn::Mbp1>(memory, dbn::RType::mbp_1, stamp_, instrument);
        fill_action(out.event, stamp_, action, 1);
        fill_level(out.level, block, 0);
    }
    [[gnu::noinline]] void write_mbp_10(std::uint16_t instrument, book::Block& block, const Action& action) {
        void* memory = publisher_.claim(dbn::Schema::mbp_10, stamp_.sequence_low());
        auto& out = begin_record<dbn::Mbp10>(memory, dbn::RType::mbp_10, stamp_, instrument);
        fill_action(out.event, stamp_, action, book::view_levels);
        for (unsigned rank = 0; rank < book::view_levels; ++rank) fill_level(out.levels[rank], block, rank);
    }

    // ---- small things

    // Taking nothing off an order changes no level, unless the order had nothing left and goes.
    static bool changes(const book::Order& order, std::uint32_t shares) {
        return shares != 0 || order.shares == 0;
    }
    static char letter(Side side) { return side == Side::bid ? 'B' : 'A'; }
    void unknown_order() { ++counters_.unknown_orders; }
    std::uint32_t at_most(std::uint32_t wanted_shares, std::uint32_t left) {
        if (wanted_shares <= left) [[likely]]
            return wanted_shares;
        unknown_order();
        return left;
    }
    void refused() { ++counters_.refused_orders; }

    void end(book::Block& block) { book::TableWriter::end(block, stamp_.sequence, stamp_.ts_event_ns); }

    // Whether the instrument's records are wanted at all; sets the quality flag of what follows.
    bool wanted(const book::Block& block) {
        if (publisher_.schema_mask() == 0 || (block.flags & book::block_published) == 0) return false;
        const bool bad = state_ != FeedState::live || (block.flags & book::block_incomplete) != 0;
        stamp_.quality = static_cast<std::uint8_t>(time_quality_ | (bad ? dbn::f_maybe_bad_book : 0));
        return true;
    }

    void name(std::uint16_t instrument, std::uint64_t symbol) {
        book::Block& block = books_.block(instrument);
        if ((block.flags & book::block_known) == 0) [[unlikely]]
            set_name(block, instrument, symbol);
    }
    void set_name(book::Block& block, std::uint16_t instrument, std::uint64_t symbol) {
        books_.table().set_symbol(instrument, symbol);
        bool publish = wanted_.empty();
        for (const std::uint64_t w : wanted_) publish = publish || w == symbol;
        const unsigned rest = block.flags & ~unsigned{book::block_published};
        book::TableWriter::set_flags(block, rest | (publish ? unsigned{book::block_published} : 0u));
    }
    static std::uint64_t padded(const std::string& symbol) {
        char text[8];
        std::memset(text, ' ', sizeof(text));
        std::memcpy(text, symbol.data(), std::min(symbol.size(), sizeof(text)));
        std::uint64_t word;
        std::memcpy(&word, text, sizeof(word));
        return word;
    }

    Publisher& publisher_;
    book::BookSet books_;
    LookAhead ahead_;
    std::size_t fetched_ = 0;  // of the messages to come
    NormalizerSettings settings_;
    std::vector<std::uint64_t> wanted_;
    FeedCounters counters_;
    std::uint32_t rebuilt_ = 0;  // books done of a snapshot that is being spliced in
    FeedState state_ = FeedState::starting;
    std::uint8_t time_quality_ = 0;  // F_BAD_TS_RECV of the messages being applied
    Stamp stamp_{};
};

}  // namespace fh::record
