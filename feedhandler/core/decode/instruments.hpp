// Messages about one instrument's definition and trading state: R, H, Y, L, K, J, h. Codes stay raw bytes:
// the exchange adds values without a new version.
#pragma once

#include "decode/fields.hpp"

namespace fh::decode {

struct StockDirectory : AnyMessage {
    std::uint64_t stock() const { return alpha8(p + 11); }
    char market_category() const { return static_cast<char>(p[19]); }
    char financial_status() const { return static_cast<char>(p[20]); }
    std::uint32_t round_lot_size() const { return be32(p + 21); }
    char round_lots_only() const { return static_cast<char>(p[25]); }
    char issue_classification() const { return static_cast<char>(p[26]); }
    const char* issue_sub_type() const { return reinterpret_cast<const char*>(p + 27); }  // 2 bytes
    char authenticity() const { return static_cast<char>(p[29]); }
    char short_sale_threshold() const { return static_cast<char>(p[30]); }
    char ipo_flag() const { return static_cast<char>(p[31]); }
    char luld_tier() const { return static_cast<char>(p[32]); }
    char etp_flag() const { return static_cast<char>(p[33]); }
    std::uint32_t etp_leverage() const { return be32(p + 34); }
    char inverse() const { return static_cast<char>(p[38]); }
};

struct TradingAction : AnyMessage {
    std::uint64_t stock() const { return alpha8(p + 11); }
    char state() const {
        return static_cast<char>(p[19]);
    }  // H halted, P paused, Q quotation only, T trading
    const char* reason() const { return reinterpret_cast<const char*>(p + 21); }  // 4 bytes
};

struct ShortSaleRestriction : AnyMessage {
    std::uint64_t stock() const { return alpha8(p + 11); }
    char action() const { return static_cast<char>(p[19]); }  // 0 none, 1 in effect, 2 remains in effect
};

struct ParticipantPosition : AnyMessage {
    const char* mpid() const { return reinterpret_cast<const char*>(p + 11); }  // 4 bytes
    std::uint64_t stock() const { return alpha8(p + 15); }
    char primary() const { return static_cast<char>(p[23]); }
    char mode() const { return static_cast<char>(p[24]); }
    char state() const { return static_cast<char>(p[25]); }
};

struct IpoQuotingPeriod : AnyMessage {
    std::uint64_t stock() const { return alpha8(p + 11); }
    std::uint32_t release_time_s() const { return be32(p + 19); }  // seconds since midnight, 0 if cancelled
    char qualifier() const { return static_cast<char>(p[23]); }
    std::uint32_t price() const { return be32(p + 24); }
};

struct AuctionCollar : AnyMessage {
    std::uint64_t stock() const { return alpha8(p + 11); }
    std::uint32_t reference_price() const { return be32(p + 19); }
    std::uint32_t upper() const { return be32(p + 23); }
    std::uint32_t lower() const { return be32(p + 27); }
    std::uint32_t extension() const { return be32(p + 31); }
};

struct OperationalHalt : AnyMessage {
    std::uint64_t stock() const { return alpha8(p + 11); }
    char market() const { return static_cast<char>(p[19]); }
    char action() const { return static_cast<char>(p[20]); }  // H halted, T resumed
};

}  // namespace fh::decode
