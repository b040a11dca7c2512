// Fills DBN records straight into the publisher's memory. All that the records of one message share is set
// once.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "book/book_set.hpp"
#include "record/dbn.hpp"
#include "record/status.hpp"

namespace fh::record {

// What every record of one message carries.
struct Stamp {
    std::uint64_t sequence;
    std::int64_t ts_event_ns;
    std::int64_t ts_recv_ns;
    std::uint16_t publisher_id;
    std::uint8_t quality;  // f_maybe_bad_book or nothing

    std::int32_t ts_in_delta() const {
        using Limits = std::numeric_limits<std::int32_t>;
        const std::int64_t delta = ts_recv_ns - ts_event_ns;
        return static_cast<std::int32_t>(std::clamp<std::int64_t>(delta, Limits::min(), Limits::max()));
    }
    std::uint32_t sequence_low() const { return static_cast<std::uint32_t>(sequence); }
};

// What a message did to a book, as mbp records and trades tell it.
struct Action {
    std::int64_t price = dbn::undef_price;
    std::uint32_t size = 0;
    char action = 'R';
    char side = 'N';
    unsigned rank = 0;  // of the level touched
};

template <class Record>
Record& begin_record(void* memory, dbn::RType rtype, const Stamp& stamp, std::uint32_t instrument) {
    Record& out = *static_cast<Record*>(memory);
    dbn::Header& header = *reinterpret_cast<dbn::Header*>(&out);
    header.length = sizeof(Record) / 4;
    header.rtype = rtype;
    header.publisher_id = stamp.publisher_id;
    header.instrument_id = instrument;
    header.ts_event = static_cast<std::uint64_t>(stamp.ts_event_ns);
    return out;
}

inline void fill_action(dbn::Trade& out, const Stamp& stamp, const Action& action, unsigned levels) {
    out.price = action.price;
    out.size = action.size;
    out.action = action.action;
    out.side = action.side;
    out.flags = static_cast<std::uint8_t>(dbn::f_last | stamp.quality);
    out.depth = static_cast<std::uint8_t>(action.rank < levels ? action.rank : 0);
    out.ts_recv = static_cast<std::uint64_t>(stamp.ts_recv_ns);
    out.ts_in_delta = stamp.ts_in_delta();
    out.sequence = stamp.sequence_low();
}

// One level of both sides as it stands; sums beyond 32 bits say 4294967295.
inline void fill_level(dbn::BidAskPair& out, book::Block& block, unsigned rank) {
    const book::Node bids = block.side(0);
    const book::Node asks = block.side(1);
    out = {dbn::undef_price, dbn::undef_price, 0, 0, 0, 0};
    if (rank < bids.size()) {
        const book::Level& level = bids.level_at(rank);
        out.bid_px = price_1e9(book::key_price(book::Side::bid, bids.key_at(rank)));
        out.bid_sz = clamp_size(level.size);
        out.bid_ct = level.orders;
    }
    if (rank < asks.size()) {
        const book::Level& level = asks.level_at(rank);
        out.ask_px = price_1e9(book::key_price(book::Side::ask, asks.key_at(rank)));
        out.ask_sz = clamp_size(level.size);
        out.ask_ct = level.orders;
    }
}

}  // namespace fh::record
