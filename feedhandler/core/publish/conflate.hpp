// The latest state instead of history: of each instrument and schema only the newest record stays. For
// consumers that are slower than the feed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <unordered_map>
#include <vector>

#include "../book/table_reader.hpp"
#include "../record/dbn.hpp"
#include "layout.hpp"

namespace fh::publish {

class Conflator {
  public:
    void add(const RecordHeader& header, const std::byte* body) {
        if (header.schema >= dbn::schema_count) return put(next_event_++, header, body);
        std::uint32_t instrument_id;
        std::memcpy(&instrument_id, body + offsetof(dbn::Header, instrument_id), sizeof instrument_id);
        const std::uint64_t key = std::uint64_t{instrument_id} << 8 | header.schema;
        // A book read out of the table may be ahead of the ring.
        if (const auto floor = floors_.find(key); floor != floors_.end()) {
            const auto ahead = static_cast<std::int32_t>(floor->second - header.sequence);
            if (ahead >= 0 && header.sequence != 0) return void(++replaced_);
            floors_.erase(floor);
        }
        put(key, header, body);
    }

    // A whole book in place of records that were lost.
    void add_book(std::uint32_t instrument_id, const BookView& book, dbn::Schema schema, std::uint8_t state,
                  std::uint16_t publisher_id) {
        dbn::Mbp10 record{};
        fill(record, instrument_id, book, schema, state, publisher_id);
        const auto index = static_cast<std::size_t>(schema);
        const RecordHeader header{static_cast<std::uint16_t>(sizeof(RecordHeader) + dbn::schema_sizes[index]),
                                  static_cast<std::uint8_t>(schema), state,
                                  static_cast<std::uint32_t>(book.sequence)};
        const std::uint64_t key = std::uint64_t{instrument_id} << 8 | static_cast<std::uint64_t>(schema);
        put(key, header, reinterpret_cast<const std::byte*>(&record));
        floors_[key] = header.sequence;
    }

    // The ring was read to its end: it has passed all books that were added.
    void drained() { floors_.clear(); }

    bool empty() const { return slots_.empty(); }
    std::uint64_t replaced() const { return replaced_; }  // records that a newer one took the place of

    // handler(const RecordHeader&, const std::byte* body) for what is left, in feed order; empty afterwards.
    template <typename Handler>
    void take(Handler&& handler) {
        order_.clear();
        for (const auto& [key, slot] : slots_) order_.push_back(&slot);
        std::sort(order_.begin(), order_.end(),
                  [](const Slot* a, const Slot* b) { return a->arrival < b->arrival; });
        for (const Slot* slot : order_) handler(slot->header, slot->body);
        slots_.clear();
        next_event_ = first_event;
    }

  private:
    struct Slot {
        RecordHeader header{};
        std::uint64_t arrival = 0;
        alignas(8) std::byte body[sizeof(dbn::InstrumentDef)];  // the longest
    };
    static constexpr std::uint64_t first_event = std::uint64_t{1} << 48;  // no instrument has such a key

    void put(std::uint64_t key, const RecordHeader& header, const std::byte* body) {
        const auto [entry, fresh] = slots_.try_emplace(key);
        if (!fresh) ++replaced_;
        entry->second.header = header;
        entry->second.arrival = ++arrivals_;
        std::memcpy(entry->second.body, body,
                    std::min<std::size_t>(header.length - sizeof(RecordHeader), sizeof(Slot::body)));
    }

    static std::uint32_t clamped(std::uint64_t size) {
        return static_cast<std::uint32_t>(std::min<std::uint64_t>(size, dbn::undef_order_size));
    }

    static void fill(dbn::Mbp10& record, std::uint32_t instrument_id, const BookView& book,
                     dbn::Schema schema, std::uint8_t state, std::uint16_t publisher_id) {
        const bool ten = schema == dbn::Schema::mbp_10;
        dbn::Trade& event = record.event;
        event.hd = {static_cast<std::uint8_t>(dbn::schema_sizes[static_cast<std::size_t>(schema)] / 4),
                    ten ? dbn::RType::mbp_10 : dbn::RType::mbp_1, publisher_id, instrument_id,
                    static_cast<std::uint64_t>(book.ts_event_ns)};
        event.price = dbn::undef_price;
        event.action = 'N';
        event.side = 'N';
        event.flags = dbn::f_last | dbn::f_snapshot | dbn::f_bad_ts_recv;
        if (state != static_cast<std::uint8_t>(FeedState::live) || book.incomplete)
            event.flags |= dbn::f_maybe_bad_book;
        event.ts_recv = event.hd.ts_event;
        event.sequence = static_cast<std::uint32_t>(book.sequence);
        for (std::size_t i = 0; i < record.levels.size(); ++i) {
            const bool bid = i < book.bid_count;
            const bool ask = i < book.ask_count;
            record.levels[i] = {bid ? book.bids[i].price : dbn::undef_price,
                                ask ? book.asks[i].price : dbn::undef_price,
                                bid ? clamped(book.bids[i].size) : 0,
                                ask ? clamped(book.asks[i].size) : 0,
                                bid ? book.bids[i].orders : 0,
                                ask ? book.asks[i].orders : 0};
        }
    }

    std::unordered_map<std::uint64_t, Slot> slots_;
    std::unordered_map<std::uint64_t, std::uint32_t> floors_;
    std::vector<const Slot*> order_;
    std::uint64_t next_event_ = first_event;
    std::uint64_t arrivals_ = 0;
    std::uint64_t replaced_ = 0;
};

}  // namespace fh::publish
