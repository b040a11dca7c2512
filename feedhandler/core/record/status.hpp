// Trading states and auctions as DBN's status, imbalance and definition records.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "decode/auctions.hpp"
#include "decode/instruments.hpp"
#include "record/dbn.hpp"

namespace fh::record {

// Numbers of DBN's StatusAction and StatusReason.
namespace action {
inline constexpr std::uint16_t none = 0, quoting = 3, trading = 7, halt = 8, pause = 9, ssr_change = 14;
}
namespace reason {
inline constexpr std::uint16_t none = 0, operational = 60;
}

// Nasdaq's four-character reason codes of halts, pauses and resumptions.
inline std::uint16_t status_reason(std::string_view code) {
    struct Entry {
        std::string_view code;
        std::uint16_t reason;
    };
    static constexpr Entry entries[] = {
        {"T1  ", 30}, {"T2  ", 31},  {"T3  ", 33},  {"T5  ", 50},  {"T6  ", 2},   {"T7  ", 50},  {"T8  ", 90},
        {"T12 ", 70}, {"H4  ", 12},  {"H9  ", 13},  {"H10 ", 14},  {"H11 ", 10},  {"O1  ", 60},  {"LUDP", 50},
        {"LUDS", 50}, {"MWC0", 123}, {"MWC1", 120}, {"MWC2", 121}, {"MWC3", 122}, {"MWCQ", 124}, {"IPO1", 15},
        {"IPOQ", 16}, {"IPOE", 16},  {"M1  ", 100}, {"M2  ", 130}, {"R1  ", 16},  {"R2  ", 16},  {"R4  ", 18},
        {"R9  ", 18}, {"C3  ", 30},  {"C4  ", 18},  {"C9  ", 18},  {"C11 ", 11},
    };
    for (const Entry& entry : entries) {
        if (entry.code == code) return entry.reason;
    }
    return reason::none;
}

inline void fill_status(dbn::Status& out, std::uint16_t what, std::uint16_t why, char is_trading,
                        char is_quoting, char is_restricted) {
    out.action = what;
    out.reason = why;
    out.trading_event = 0;
    out.is_trading = is_trading;
    out.is_quoting = is_quoting;
    out.is_short_sell_restricted = is_restricted;
    out.reserved = {};
}

inline void fill_status(dbn::Status& out, const decode::TradingAction& m) {
    const std::uint16_t why = status_reason({m.reason(), 4});
    switch (m.state()) {
        case 'T':
            return fill_status(out, action::trading, why, 'Y', 'Y', '~');
        case 'Q':
            return fill_status(out, action::quoting, why, 'N', 'Y', '~');
        case 'P':
            return fill_status(out, action::pause, why, 'N', 'N', '~');
        case 'H':
            return fill_status(out, action::halt, why, 'N', 'N', '~');
        default:
            return fill_status(out, action::none, why, '~', '~', '~');
    }
}

// Tells of this market only: what the listing market says of the instrument is another message.
inline void fill_status(dbn::Status& out, const decode::OperationalHalt& m) {
    if (m.action() == 'T') return fill_status(out, action::trading, reason::operational, 'Y', 'Y', '~');
    fill_status(out, action::halt, reason::operational, 'N', 'N', '~');
}

inline void fill_status(dbn::Status& out, const decode::ShortSaleRestriction& m) {
    fill_status(out, action::ssr_change, reason::none, '~', '~', m.action() == '0' ? 'N' : 'Y');
}

inline std::int64_t price_1e9(std::uint32_t price) { return std::int64_t{price} * 100'000; }

inline std::uint32_t clamp_size(std::uint64_t shares) {
    return static_cast<std::uint32_t>(std::min<std::uint64_t>(shares, dbn::undef_order_size));
}

// near counts cross and continuous orders, far cross orders only. Prices that do not exist here are 0, as
// Databento writes them.
inline void fill_imbalance(dbn::Imbalance& out, const decode::Imbalance& m) {
    out.ref_price = price_1e9(m.reference_price());
    out.auction_time = 0;
    out.cont_book_clr_price = price_1e9(m.near_price());
    out.auct_interest_clr_price = price_1e9(m.far_price());
    out.ssr_filling_price = out.ind_match_price = out.upper_collar = out.lower_collar = 0;
    out.paired_qty = clamp_size(m.paired_shares());
    out.total_imbalance_qty = clamp_size(m.imbalance_shares());
    out.market_imbalance_qty = out.unpaired_qty = dbn::undef_order_size;
    out.auction_type = m.cross_type();
    out.side = m.direction() == 'B' ? 'B' : m.direction() == 'S' ? 'A' : 'N';
    out.auction_status = out.freeze_status = out.num_extensions = 0;
    out.unpaired_side = 'N';
    out.significant_imbalance = m.price_variation();
    out.reserved = 0;
}

// Everything but the header is undefined or empty unless the directory message tells it.
inline void fill_definition(dbn::InstrumentDef& out, const decode::StockDirectory& m,
                            std::string_view exchange) {
    const dbn::Header header = out.hd;
    const std::uint64_t ts_recv = out.ts_recv;
    std::memset(static_cast<void*>(&out), 0, sizeof(out));
    out.hd = header;
    out.ts_recv = ts_recv;
    for (std::int64_t* price :
         {&out.min_price_increment, &out.high_limit_price, &out.low_limit_price, &out.max_price_variation,
          &out.unit_of_measure_qty, &out.min_price_increment_amount, &out.price_ratio, &out.strike_price,
          &out.leg_price, &out.leg_delta}) {
        *price = dbn::undef_price;
    }
    for (std::int32_t* number : {&out.inst_attrib_value, &out.market_depth_implied, &out.market_depth,
                                 &out.min_lot_size, &out.min_lot_size_block, &out.contract_multiplier,
                                 &out.decay_quantity, &out.original_contract_size}) {
        *number = std::numeric_limits<std::int32_t>::max();
    }
    out.expiration = out.activation = dbn::undef_timestamp;
    out.market_segment_id = out.max_trade_vol = out.min_trade_vol = dbn::undef_order_size;
    out.appl_id = std::numeric_limits<std::int16_t>::max();
    out.maturity_year = out.decay_start_date = out.channel_id = 0xFFFF;
    out.main_fraction = out.price_display_format = out.sub_fraction = out.underlying_product = 0xFF;
    out.maturity_month = out.maturity_day = out.maturity_week = out.tick_rule = 0xFF;
    out.contract_multiplier_unit = out.flow_schedule_type = 127;

    out.display_factor = 100'000'000'000'000;  // four decimals on the wire
    out.raw_instrument_id = m.instrument();
    const auto lot = static_cast<std::int32_t>(std::min<std::uint32_t>(m.round_lot_size(), 0x7FFF'FFFF));
    out.min_lot_size_round_lot = lot;
    const std::uint64_t stock = m.stock();
    std::memcpy(out.raw_symbol.data(), &stock, 8);
    for (int i = 7; i >= 0 && out.raw_symbol[static_cast<std::size_t>(i)] == ' '; --i) {
        out.raw_symbol[static_cast<std::size_t>(i)] = 0;
    }
    std::memcpy(out.exchange.data(), exchange.data(), std::min(exchange.size(), out.exchange.size() - 1));
    std::memcpy(out.secsubtype.data(), m.issue_sub_type(), 2);
    out.instrument_class = 'K';
    out.match_algorithm = 'F';
    out.security_update_action = 'A';
    out.user_defined_instrument = out.leg_side = 'N';
}

}  // namespace fh::record
