// The 23 message types of ITCH 5.0 and their lengths (Nasdaq TotalView-ITCH 5.0 specification, 2023-04-28
// revision).
#pragma once

#include <array>
#include <cstdint>

namespace fh::decode {

enum class Type : std::uint8_t {
    system_event = 'S',
    stock_directory = 'R',
    trading_action = 'H',
    short_sale_restriction = 'Y',
    participant_position = 'L',
    decline_levels = 'V',
    decline_status = 'W',
    ipo_quoting_period = 'K',
    auction_collar = 'J',
    operational_halt = 'h',
    add_order = 'A',
    add_order_mpid = 'F',
    order_executed = 'E',
    order_executed_with_price = 'C',
    order_cancel = 'X',
    order_delete = 'D',
    order_replace = 'U',
    trade = 'P',
    cross_trade = 'Q',
    broken_trade = 'B',
    imbalance = 'I',
    retail_interest = 'N',
    direct_listing = 'O',
};

struct TypeLength {
    Type type;
    std::uint8_t length;  // bytes, from the type byte on
};

inline constexpr std::array<TypeLength, 23> type_lengths = {{
    {Type::system_event, 12},
    {Type::stock_directory, 39},
    {Type::trading_action, 25},
    {Type::short_sale_restriction, 20},
    {Type::participant_position, 26},
    {Type::decline_levels, 35},
    {Type::decline_status, 12},
    {Type::ipo_quoting_period, 28},
    {Type::auction_collar, 35},
    {Type::operational_halt, 21},
    {Type::add_order, 36},
    {Type::add_order_mpid, 40},
    {Type::order_executed, 31},
    {Type::order_executed_with_price, 36},
    {Type::order_cancel, 23},
    {Type::order_delete, 19},
    {Type::order_replace, 35},
    {Type::trade, 44},
    {Type::cross_trade, 40},
    {Type::broken_trade, 19},
    {Type::imbalance, 50},
    {Type::retail_interest, 20},
    {Type::direct_listing, 48},
}};

// Length by type byte, 0 for types that do not exist.
inline constexpr std::array<std::uint8_t, 256> length_of_type = [] {
    std::array<std::uint8_t, 256> table{};
    for (const TypeLength& entry : type_lengths) table[static_cast<std::uint8_t>(entry.type)] = entry.length;
    return table;
}();

}  // namespace fh::decode
