// DBN version 3 record layouts, bit for bit (little-endian hosts), as Databento publishes them in
// databento-cpp.
#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <limits>

namespace fh::dbn {

static_assert(std::endian::native == std::endian::little,
              "DBN is little-endian; records are written as they lie in memory");

inline constexpr std::int64_t undef_price = std::numeric_limits<std::int64_t>::max();
inline constexpr std::uint64_t undef_timestamp = std::numeric_limits<std::uint64_t>::max();
inline constexpr std::uint32_t undef_order_size = std::numeric_limits<std::uint32_t>::max();

enum Flag : std::uint8_t {
    f_last = 128,
    f_tob = 64,
    f_snapshot = 32,
    f_mbp = 16,
    f_bad_ts_recv = 8,
    f_maybe_bad_book = 4,
};

enum class RType : std::uint8_t {
    mbp_0 = 0x00,  // trades
    mbp_1 = 0x01,
    mbp_10 = 0x0A,
    status = 0x12,
    definition = 0x13,
    imbalance = 0x14,
    mbo = 0xA0,
};

struct Header {
    std::uint8_t length;  // in 4-byte words
    RType rtype;
    std::uint16_t publisher_id;
    std::uint32_t instrument_id;
    std::uint64_t ts_event;  // ns UTC
};
static_assert(sizeof(Header) == 16);

struct Mbo {
    Header hd;
    std::uint64_t order_id;
    std::int64_t price;  // 1e-9
    std::uint32_t size;
    std::uint8_t flags;
    std::uint8_t channel_id;
    char action;
    char side;
    std::uint64_t ts_recv;
    std::int32_t ts_in_delta;
    std::uint32_t sequence;
};
static_assert(sizeof(Mbo) == 56);

// The part that trades, mbp-1 and mbp-10 share.
struct Trade {
    Header hd;
    std::int64_t price;
    std::uint32_t size;
    char action;
    char side;
    std::uint8_t flags;
    std::uint8_t depth;
    std::uint64_t ts_recv;
    std::int32_t ts_in_delta;
    std::uint32_t sequence;
};
static_assert(sizeof(Trade) == 48);

struct BidAskPair {
    std::int64_t bid_px;
    std::int64_t ask_px;
    std::uint32_t bid_sz;
    std::uint32_t ask_sz;
    std::uint32_t bid_ct;
    std::uint32_t ask_ct;
};
static_assert(sizeof(BidAskPair) == 32);

struct Mbp1 {
    Trade event;
    BidAskPair level;
};
static_assert(sizeof(Mbp1) == 80);

struct Mbp10 {
    Trade event;
    std::array<BidAskPair, 10> levels;
};
static_assert(sizeof(Mbp10) == 368);

struct Status {
    Header hd;
    std::uint64_t ts_recv;
    std::uint16_t action;
    std::uint16_t reason;
    std::uint16_t trading_event;
    char is_trading;
    char is_quoting;
    char is_short_sell_restricted;
    std::array<char, 7> reserved;
};
static_assert(sizeof(Status) == 40);

struct Imbalance {
    Header hd;
    std::uint64_t ts_recv;
    std::int64_t ref_price;
    std::uint64_t auction_time;
    std::int64_t cont_book_clr_price;
    std::int64_t auct_interest_clr_price;
    std::int64_t ssr_filling_price;
    std::int64_t ind_match_price;
    std::int64_t upper_collar;
    std::int64_t lower_collar;
    std::uint32_t paired_qty;
    std::uint32_t total_imbalance_qty;
    std::uint32_t market_imbalance_qty;
    std::uint32_t unpaired_qty;
    char auction_type;
    char side;
    std::uint8_t auction_status;
    std::uint8_t freeze_status;
    std::uint8_t num_extensions;
    char unpaired_side;
    char significant_imbalance;
    char reserved;
};
static_assert(sizeof(Imbalance) == 112);

struct InstrumentDef {
    Header hd;
    std::uint64_t ts_recv;
    std::int64_t min_price_increment;
    std::int64_t display_factor;
    std::uint64_t expiration;
    std::uint64_t activation;
    std::int64_t high_limit_price;
    std::int64_t low_limit_price;
    std::int64_t max_price_variation;
    std::int64_t unit_of_measure_qty;
    std::int64_t min_price_increment_amount;
    std::int64_t price_ratio;
    std::int64_t strike_price;
    std::uint64_t raw_instrument_id;
    std::int64_t leg_price;
    std::int64_t leg_delta;
    std::int32_t inst_attrib_value;
    std::uint32_t underlying_id;
    std::int32_t market_depth_implied;
    std::int32_t market_depth;
    std::uint32_t market_segment_id;
    std::uint32_t max_trade_vol;
    std::int32_t min_lot_size;
    std::int32_t min_lot_size_block;
    std::int32_t min_lot_size_round_lot;
    std::uint32_t min_trade_vol;
    std::int32_t contract_multiplier;
    std::int32_t decay_quantity;
    std::int32_t original_contract_size;
    std::uint32_t leg_instrument_id;
    std::int32_t leg_ratio_price_numerator;
    std::int32_t leg_ratio_price_denominator;
    std::int32_t leg_ratio_qty_numerator;
    std::int32_t leg_ratio_qty_denominator;
    std::uint32_t leg_underlying_id;
    std::int16_t appl_id;
    std::uint16_t maturity_year;
    std::uint16_t decay_start_date;
    std::uint16_t channel_id;
    std::uint16_t leg_count;
    std::uint16_t leg_index;
    std::array<char, 4> currency;
    std::array<char, 4> settl_currency;
    std::array<char, 6> secsubtype;
    std::array<char, 71> raw_symbol;
    std::array<char, 21> group;
    std::array<char, 5> exchange;
    std::array<char, 11> asset;
    std::array<char, 7> cfi;
    std::array<char, 7> security_type;
    std::array<char, 31> unit_of_measure;
    std::array<char, 21> underlying;
    std::array<char, 4> strike_price_currency;
    std::array<char, 71> leg_raw_symbol;
    char instrument_class;
    char match_algorithm;
    std::uint8_t main_fraction;
    std::uint8_t price_display_format;
    std::uint8_t sub_fraction;
    std::uint8_t underlying_product;
    char security_update_action;
    std::uint8_t maturity_month;
    std::uint8_t maturity_day;
    std::uint8_t maturity_week;
    char user_defined_instrument;
    std::int8_t contract_multiplier_unit;
    std::int8_t flow_schedule_type;
    std::uint8_t tick_rule;
    char leg_instrument_class;
    char leg_side;
    std::array<char, 17> reserved;
};
static_assert(sizeof(InstrumentDef) == 520);

// Bit positions of the schemas in masks, and the schema ids of ring records.
enum class Schema : std::uint8_t {
    mbo = 0,
    mbp_1 = 1,
    mbp_10 = 2,
    trades = 3,
    status = 4,
    imbalance = 5,
    definition = 6,
    event = 7
};
inline constexpr std::size_t schema_count = 7;  // DBN schemas; `event` is native
inline constexpr std::array<const char*, 8> schema_names = {"mbo",    "mbp-1",     "mbp-10",     "trades",
                                                            "status", "imbalance", "definition", "event"};
inline constexpr std::array<std::uint16_t, 8> schema_sizes = {56, 80, 368, 48, 40, 112, 520, 48};

constexpr std::uint32_t schema_bit(Schema schema) { return 1u << static_cast<unsigned>(schema); }

}  // namespace fh::dbn
