// Messages about auctions and halts: imbalances, collars, trading states, with their fields filled in
// plausibly.
#pragma once

#include <algorithm>
#include <cstdint>

#include "simulate/flow.hpp"
#include "simulate/market.hpp"

namespace fh::simulate {

inline void send_state(Market& market, std::uint32_t symbol, Trading state, const char (&reason)[5]) {
    market.stocks[symbol].state = state;
    market.message('H', symbol)
        .name(market.stocks[symbol].name)
        .c(static_cast<char>(state))
        .c(' ')
        .text(reason);
}

inline void send_operational(Market& market, std::uint32_t symbol, bool halted) {
    market.stocks[symbol].operational_halt = halted;
    market.message('h', symbol).name(market.stocks[symbol].name).c('Q').c(halted ? 'H' : 'T');
}

inline void send_short_sale(Market& market, std::uint32_t symbol, char action) {
    market.message('Y', symbol).name(market.stocks[symbol].name).c(action);
}

inline void send_position(Market& market, std::uint32_t symbol, std::uint32_t maker, char state) {
    market.message('L', symbol)
        .u32(Market::mpid(maker))
        .name(market.stocks[symbol].name)
        .c(maker == 0 ? 'Y' : 'N')
        .c('N')
        .c(state);
}

// Collars of 5 % around the anchor, wider by another 5 % with each extension.
inline void send_collar(Market& market, std::uint32_t symbol, std::uint32_t extension) {
    const Stock& stock = market.stocks[symbol];
    const std::uint32_t width = stock.anchor / 20 * (1 + extension);
    market.message('J', symbol)
        .name(stock.name)
        .u32(stock.anchor)
        .u32(stock.anchor + width)
        .u32(stock.anchor - width)
        .u32(extension);
}

inline void send_price_discovery(Market& market, std::uint32_t symbol) {
    const Stock& stock = market.stocks[symbol];
    const std::uint32_t price = stock.anchor, collar = price / 10;
    market.message('O', symbol)
        .name(stock.name)
        .c('Y')
        .u32(price - price / 5)
        .u32(price + price / 5 * 4)
        .u32(price)
        .u64(market.now_ns())
        .u32(price - collar)
        .u32(price + collar);
}

// Code of the distance between near and reference price (itch50: price variation).
inline char variation(std::uint32_t near, std::uint32_t reference) {
    if (near == 0 || reference == 0) return ' ';
    const std::uint64_t apart = near > reference ? near - reference : reference - near;
    const std::uint64_t per_cent = apart * 100 / reference;
    if (per_cent < 1) return 'L';
    if (per_cent < 10) return static_cast<char>('0' + per_cent);
    return per_cent < 20 ? 'A' : per_cent < 30 ? 'B' : 'C';
}

// `interest`: what wants to trade in the auction and is not displayed; positive = buyers.
inline void send_imbalance(Market& market, Random& random, std::uint32_t symbol, char cross_type) {
    const Stock& stock = market.stocks[symbol];
    const Level* bid = stock.best(Side::buy);
    const Level* ask = stock.best(Side::sell);
    Fields fields = market.message('I', symbol);
    if (bid == nullptr || ask == nullptr) {
        fields.u64(0).u64(0).c('O').name(stock.name).u32(0).u32(0).u32(0).c(cross_type).c(' ');
        return;
    }
    const std::uint64_t paired = 100ull * random.below(500);
    const std::uint64_t imbalance = 100ull * random.below(80);
    const bool buyers = random.below(2) == 0;
    const std::uint32_t reference = buyers ? ask->price : bid->price;
    const std::uint32_t drift = stock.tick * random.below(4);
    const std::uint32_t near = buyers ? reference + drift : reference - std::min(drift, reference - 1);
    const std::uint32_t far = buyers ? near + drift : near - std::min(drift, near - 1);
    const char direction = cross_type == 'H' && stock.state == Trading::paused ? 'P'
                           : imbalance == 0                                    ? 'N'
                           : buyers                                            ? 'B'
                                                                               : 'S';
    fields.u64(paired)
        .u64(imbalance)
        .c(direction)
        .name(stock.name)
        .u32(far)
        .u32(near)
        .u32(reference)
        .c(cross_type);
    fields.c(variation(near, reference));
}

// The cross of one stock, with hidden interest of a random side; prints nothing but Q when there is nothing
// displayed to trade with.
inline void run_cross(Market& market, Random& random, std::uint32_t symbol, char type,
                      std::uint64_t max_prints) {
    const Side hidden_side = random.below(2) == 0 ? Side::buy : Side::sell;
    const std::uint64_t hidden = random.below(4) == 0 ? 100ull * (1 + random.below(20)) : 0;
    Market::CrossPlan plan = market.plan_cross(symbol, hidden_side, hidden);
    if (plan.orders > max_prints) plan = {};
    std::uint64_t pairs = 0;
    if (plan.price == 0 && random.below(3) > 0) {  // only hidden interest meets
        const Level* bid = market.stocks[symbol].best(Side::buy);
        plan.price = bid != nullptr ? bid->price : market.stocks[symbol].anchor;
        pairs = 100ull * (1 + random.below(300));
    } else if (plan.price != 0) {
        pairs = 100ull * random.below(300);
    }
    market.cross(symbol, type, plan, pairs);
}

}  // namespace fh::simulate
