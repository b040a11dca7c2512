// What traders do: where orders arrive, how large they are, how long they live. Calibrated to a NASDAQ day:
// 44 % adds, 43 % deletes, 7-8 % replaces, 2-3 % executions; 83 % of adds within five levels of the best, a
// quarter of them opening a level; many orders gone within some thousand messages, a few per cent there until
// the close.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

#include "random.hpp"
#include "simulate/market.hpp"

namespace fh::simulate {

class Flow {
  public:
    // `day_messages`: bounds the lifetimes, so that a short day has the mix of a long one.
    Flow(Market& market, const std::vector<Listing>& listings, std::uint64_t day_messages, std::uint64_t seed)
        : market_(market),
          popularity_(listings),
          wheel_(market.pool),
          random_(seed, 103),
          lifetime_bits_(std::clamp(static_cast<unsigned>(std::bit_width(day_messages)) - 1u, 8u, 27u)) {
        for (std::uint32_t& symbol : upcoming_) symbol = popularity_.draw(random_);
    }

    static constexpr unsigned max_messages = 20;  // of one step

    // One trader's action, 0 to max_messages messages. False: nothing happened.
    bool step() {
        prefetch();
        if (const std::uint32_t handle = wheel_.poll(step_++)) return change(handle);
        return arrive();
    }

    // Exactly one message, no execution: to land on a message number.
    bool step_single() {
        for (std::uint32_t tries = 0; tries < 64; ++tries) {
            const std::uint32_t symbol = popularity_.draw(random_);
            if (market_.stocks[symbol].open() && !market_.pool.full()) return rest(symbol);
        }
        return false;
    }

    // Deletes one resting order after the close. False: the pool has been walked.
    bool purge() {
        while (purged_ < market_.pool.top()) {
            const std::uint32_t handle = ++purged_;
            if (market_.pool[handle].shares == 0 || !is_live(handle)) continue;
            market_.cancel(handle);
            return true;
        }
        return false;
    }

    // Orders for a stock that is quoted but not yet trading; they may cross.
    void quote(std::uint32_t symbol) {
        if (market_.pool.full()) return;
        Stock& stock = market_.stocks[symbol];
        const Side side = random_.below(2) == 0 ? Side::buy : Side::sell;
        const std::uint32_t ticks = random_.below(4) * stock.tick;
        const std::uint32_t price =
            side == Side::buy ? stock.anchor + ticks : stock.anchor - std::min(ticks, stock.anchor / 2);
        settle(symbol, side, order_size(), std::max<std::uint32_t>(price, stock.tick));
    }

    std::uint32_t draw_symbol() { return popularity_.draw(random_); }
    Random& random() { return random_; }
    std::uint64_t adds_near() const { return adds_near_; }
    void set_executions(bool allowed) { executions_ = allowed; }

  private:
    static constexpr std::uint64_t take_share = threshold(0.0265);  // of the arrivals: take liquidity
    static constexpr std::uint64_t hidden_share =
        threshold(0.0078);  // of the arrivals: trade with hidden interest
    static constexpr std::uint64_t all_day_share =
        threshold(0.06);  // of the new orders: rest until the close
    static constexpr std::uint64_t replace_share = threshold(0.155);  // of the changes
    static constexpr std::uint64_t reduce_share = threshold(0.0335);  // of the changes
    static constexpr std::uint64_t open_share = threshold(0.21);      // of the adds: open a level
    static constexpr std::uint64_t deep_share = threshold(0.08);      // of the adds: beyond the fifth level
    static constexpr std::uint64_t improve_share =
        threshold(0.45);  // of the level openers near the best: inside the spread

    // The lines that the next steps will need: stocks two draws ahead, an order's stock and neighbours before
    // its turn.
    void prefetch() {
        const std::uint32_t due = wheel_.peek(2);
        if (due != 0) {
            const Order& order = market_.pool[due];
            __builtin_prefetch(&market_.pool[order.previous]);
            __builtin_prefetch(&market_.pool[order.next]);
            prefetch_levels(order.symbol);
        }
        const std::uint32_t soon = wheel_.peek(4);
        if (soon != 0) __builtin_prefetch(&market_.stocks[market_.pool[soon].symbol]);
    }
    void prefetch_levels(std::uint32_t symbol) {
        for (const auto& levels : market_.stocks[symbol].levels) {
            if (!levels.empty()) __builtin_prefetch(&levels.back());
        }
    }

    std::uint32_t next_symbol() {
        std::uint32_t& slot = upcoming_[draws_++ % 4];
        const std::uint32_t symbol = slot;
        slot = popularity_.draw(random_);
        __builtin_prefetch(&market_.stocks[slot]);
        prefetch_levels(upcoming_[draws_ % 4]);
        return symbol;
    }

    // A handle below `top` may be free: then its place in the wheel or the free list says nothing, but its
    // shares are 0.
    bool is_live(std::uint32_t handle) { return market_.pool[handle].shares > 0; }

    bool change(std::uint32_t handle) {
        Order& order = market_.pool[handle];
        Stock& stock = market_.stocks[order.symbol];
        const std::uint64_t draw = random_.next() >> 1;
        if (draw < replace_share && stock.open()) {
            const std::uint32_t price = random_.below(3) == 0 ? order.price : place(stock, order.side);
            market_.replace(handle, order_size(), price != 0 ? price : order.price);
            schedule(handle);
        } else if (draw < replace_share + reduce_share && order.shares > 1) {
            market_.reduce_to(handle, 1 + random_.below(order.shares - 1));
            schedule(handle);
        } else {
            market_.cancel(handle);
        }
        return true;
    }

    bool arrive() {
        const std::uint32_t symbol = next_symbol();
        Stock& stock = market_.stocks[symbol];
        if (!stock.open()) return false;
        const std::uint64_t draw = random_.next() >> 1;
        if (executions_ && draw < take_share) return take(symbol);
        if (executions_ && draw < take_share + hidden_share) return trade_hidden(symbol);
        if (market_.pool.full()) {  // bounded memory: somebody has to go
            const std::uint32_t handle = 1 + random_.below(market_.pool.top());
            if (!is_live(handle)) return false;
            market_.cancel(handle);
            return true;
        }
        return rest(symbol);
    }

    // Draws are statements of their own throughout: the order of operands is the compiler's choice.
    bool rest(std::uint32_t symbol) {
        const Side side = random_side(symbol);
        const std::uint32_t shares = order_size();
        const std::uint32_t price = place(market_.stocks[symbol], side);
        if (price == 0) return false;
        settle(symbol, side, shares, price);
        return true;
    }

    void settle(std::uint32_t symbol, Side side, std::uint32_t shares, std::uint32_t price) {
        std::uint32_t handle = 0;
        count_near(market_.stocks[symbol], side, price);
        market_.add(symbol, side, shares, price, &handle);
        if (!random_.chance(all_day_share)) schedule(handle);
    }

    void schedule(std::uint32_t handle) { wheel_.schedule(handle, random_.log_uniform(5, lifetime_bits_)); }

    // Buyers when the price is below the anchor, sellers above: the price wanders but does not leave.
    Side random_side(std::uint32_t symbol) {
        Stock& stock = market_.stocks[symbol];
        if (random_.below(64) == 0) {
            const std::uint32_t step = stock.tick * (1 + random_.below(2));
            if (random_.below(2) == 0) {
                stock.anchor += stock.anchor < 190'000'0000u ? step : 0;
            } else if (stock.anchor > 40u * step) {
                stock.anchor -= step;
            }
        }
        return random_.below(2) == 0 ? Side::buy : Side::sell;
    }

    Side taking_side(const Stock& stock) {
        const Level* level = stock.best(Side::buy);
        if (level == nullptr) return Side::buy;
        const std::int64_t away =
            static_cast<std::int64_t>(level->price) - static_cast<std::int64_t>(stock.anchor);
        const std::int64_t lean =
            std::clamp<std::int64_t>(away * 4000 / stock.anchor, -450, 450);  // per mille
        return static_cast<std::int64_t>(random_.below(1000)) < 500 - lean ? Side::buy : Side::sell;
    }

    bool take(std::uint32_t symbol) {
        Stock& stock = market_.stocks[symbol];
        const Side side = taking_side(stock);
        const Level* best = stock.best(opposite(side));
        if (best == nullptr) return false;
        const std::uint32_t limit = best->price;
        std::uint32_t shares = order_size();
        if (random_.below(4) == 0) shares += order_size();
        shares = market_.take(symbol, side, shares, limit, 16);
        const bool stays = random_.below(8) == 0;
        if (shares > 0 && stays && !stock.marketable(side, limit) && !market_.pool.full())
            settle(symbol, side, shares, limit);
        return true;
    }

    bool trade_hidden(std::uint32_t symbol) {
        const Stock& stock = market_.stocks[symbol];
        const Level* bid = stock.best(Side::buy);
        const Level* ask = stock.best(Side::sell);
        if (bid == nullptr || ask == nullptr) return false;
        market_.trade_hidden(symbol, order_size(), bid->price + (ask->price - bid->price) / 2);
        return true;
    }

    std::uint32_t order_size() {
        const std::uint32_t kind = random_.below(100);
        if (kind < 45) return 100;
        if (kind < 70) return 100 * (2 + random_.below(8));
        if (kind < 95) return 1 + random_.below(99);
        return 1000 * (1 + random_.below(5));
    }

    // Rank of a level near the best, 0..4, falling: 68 of the day's 83 % are on the best three.
    std::uint32_t near_rank() {
        const std::uint32_t draw = random_.below(83);
        return draw < 31 ? 0 : draw < 53 ? 1 : draw < 68 ? 2 : draw < 77 ? 3 : 4;
    }

    // A price for an order that does not trade at once; 0: none (the price would fall to nothing).
    std::uint32_t place(const Stock& stock, Side side) {
        const auto& levels = stock.levels[static_cast<std::size_t>(side)];
        std::uint32_t price;
        if (levels.empty()) {
            price = away(stock.anchor, side, stock.tick * (1 + random_.below(6)));
        } else if (random_.chance(open_share) || levels.size() < 3) {
            price = new_level(stock, side);
        } else {
            const auto count = static_cast<std::uint32_t>(levels.size());
            std::uint32_t rank = near_rank();
            if (random_.chance(deep_share) && count > 5) rank = 5 + random_.below(count - 5);
            price = levels[count - 1 - std::min(rank, count - 1)].price;
        }
        if (stock.marketable(side, price)) price = away(stock.best(opposite(side))->price, side, stock.tick);
        return price;
    }

    std::uint32_t new_level(const Stock& stock, Side side) {
        const auto& levels = stock.levels[static_cast<std::size_t>(side)];
        const Level* other = stock.best(opposite(side));
        const auto count = static_cast<std::uint32_t>(levels.size());
        const bool deep = random_.chance(deep_share);
        if (!deep && other != nullptr && random_.chance(improve_share)) {
            const std::uint32_t best = levels.back().price;
            const std::uint32_t gap =
                (side == Side::buy ? other->price - best : best - other->price) / stock.tick;
            if (gap > 1)
                return away(best, opposite(side), stock.tick * (1 + random_.below(std::min(gap - 1, 3u))));
        }
        for (std::uint32_t rank = deep ? 5 + random_.below(8) : near_rank(), tries = 0;
             rank + 1 < count && tries < 6; ++rank, ++tries) {
            const std::uint32_t upper = levels[count - 1 - rank].price,
                                lower = levels[count - 2 - rank].price;
            const std::uint32_t gap = (side == Side::buy ? upper - lower : lower - upper) / stock.tick;
            if (gap > 1) return away(upper, side, stock.tick * (1 + random_.below(std::min(gap - 1, 4u))));
        }
        if (count >= max_levels) return levels.front().price;
        return away(levels.front().price, side, stock.tick * (1 + random_.below(4)));
    }
    static constexpr std::uint32_t max_levels = 400;  // of one side: a sorted array stays quick

    // A price `distance` worse for `side`; 0 when there is none.
    static std::uint32_t away(std::uint32_t price, Side side, std::uint32_t distance) {
        if (side == Side::sell) return price < 199'000'0000u - distance ? price + distance : 0;
        return price > distance ? price - distance : 0;
    }

    void count_near(const Stock& stock, Side side, std::uint32_t price) {
        const auto& levels = stock.levels[static_cast<std::size_t>(side)];
        adds_near_ += levels.size() < 5 || !better(side, levels[levels.size() - 5].price, price);
    }

    Market& market_;
    Popularity popularity_;
    Wheel wheel_;
    Random random_;
    unsigned lifetime_bits_;
    std::uint64_t step_ = 0, draws_ = 0, adds_near_ = 0;
    std::uint32_t purged_ = 0;
    std::uint32_t upcoming_[4] = {};
    bool executions_ = true;
};

}  // namespace fh::simulate
