// What a message says that the DBN records made of it have no field for.
#pragma once

#include <cstdint>
#include <cstring>

#include "decode/orders.hpp"
#include "decode/trades.hpp"
#include "decode/types.hpp"
#include "event.hpp"

namespace fh::record {

inline void fill_print(TradingEvent& out, TradingKind kind, std::uint64_t match_number, std::uint64_t shares,
                       char detail) {
    out.kind = kind;
    out.match_number = match_number;
    out.shares = shares;
    out.detail = detail;
}

// Of a whole message: fills what the message itself says; false when DBN carries all of it.
inline bool fill_trading(TradingEvent& out, const std::uint8_t* p) {
    using decode::Type;
    switch (Type{p[0]}) {
        case Type::add_order_mpid: {
            const decode::AddOrder m{{p}};
            fill_print(out, TradingKind::attribution, 0, m.shares(), 0);
            std::memcpy(out.participant, m.participant(), sizeof(out.participant));
            break;
        }
        case Type::order_executed: {
            const decode::OrderExecuted m{{p}};
            fill_print(out, TradingKind::execution, m.match_number(), m.shares(), 'Y');
            break;
        }
        case Type::order_executed_with_price: {
            const decode::OrderExecutedWithPrice m{{{p}}};
            fill_print(out, TradingKind::execution, m.match_number(), m.shares(), m.printable() ? 'Y' : 'N');
            break;
        }
        case Type::trade: {
            const decode::Trade m{{p}};
            fill_print(out, TradingKind::print, m.match_number(), m.shares(), 0);
            break;
        }
        case Type::cross_trade: {
            const decode::CrossTrade m{{p}};
            if (m.shares() == 0) return false;  // no cross happened
            fill_print(out, TradingKind::cross, m.match_number(), m.shares(), m.cross_type());
            break;
        }
        case Type::broken_trade:
            fill_print(out, TradingKind::broken, decode::BrokenTrade{{p}}.match_number(), 0, 0);
            break;
        default:
            return false;
    }
    out.instrument_id = decode::AnyMessage{p}.instrument();
    return true;
}

}  // namespace fh::record
