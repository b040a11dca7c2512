// The matching engine of the simulated exchange: every change of a book goes through here, and here it
// becomes a message.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

#include "random.hpp"
#include "simulate/book.hpp"
#include "simulate/encode.hpp"
#include "simulate/orders.hpp"
#include "simulate/symbols.hpp"

namespace fh::simulate {

class Market {
  public:
    Market(const std::vector<Listing>& listings, std::uint32_t max_orders, std::uint64_t seed)
        : pool(max_orders), out(1u << 20), random_(seed, 102) {
        for (const Listing& listing : listings) {
            const auto tick = static_cast<std::uint16_t>(listing.price < 10000 ? 1 : 100);
            stocks.push_back({{}, listing.name, listing.price, tick});
        }
    }

    // ---- time: messages of one event share the timestamp and count up the tracking number
    void begin_event(std::uint64_t now_ns) {
        now_ns_ = now_ns;
        tracking_ = 0;
    }
    std::uint64_t now_ns() const { return now_ns_; }

    Fields message(char type, std::uint32_t symbol) {
        return header(type, static_cast<std::uint16_t>(symbol + 1));
    }
    Fields market_wide(char type) { return header(type, 0); }

    // ---- orders
    void add(std::uint32_t symbol, Side side, std::uint32_t shares, std::uint32_t price,
             std::uint32_t* handle_out = nullptr) {
        const std::uint32_t handle = pool.allocate();
        pool[handle] = {
            new_reference(), 0, 0, 0, shares, price, static_cast<std::uint16_t>(symbol), side, 0, 0};
        opened_levels_ += link(stocks[symbol], pool, handle);
        ++added_orders_;
        const bool attributed = random_.chance(threshold(0.0195));
        Fields fields = message(attributed ? 'F' : 'A', symbol);
        fields.u64(pool[handle].reference)
            .c(side_code(side))
            .u32(shares)
            .name(stocks[symbol].name)
            .u32(price);
        if (attributed) fields.u32(mpid(random_.below(8)));
        if (handle_out != nullptr) *handle_out = handle;
    }

    void cancel(std::uint32_t handle) {
        const Order& order = pool[handle];
        message('D', order.symbol).u64(order.reference);
        unlink(stocks[order.symbol], pool, handle);
        pool.retire(handle);
    }

    void reduce_to(std::uint32_t handle, std::uint32_t shares) {
        const Order& order = pool[handle];
        const std::uint32_t cancelled = order.shares - shares;
        message('X', order.symbol).u64(order.reference).u32(cancelled);
        reduce(stocks[order.symbol], pool, handle, cancelled);
    }

    void replace(std::uint32_t handle, std::uint32_t shares, std::uint32_t price) {
        Order& order = pool[handle];
        Stock& stock = stocks[order.symbol];
        Fields fields = message('U', order.symbol);
        unlink(stock, pool, handle);
        fields.u64(order.reference);
        order.reference = new_reference();
        order.shares = shares;
        order.price = price;
        fields.u64(order.reference).u32(shares).u32(price);
        link(stock, pool, handle);
    }

    // An incoming order takes the best prices of the other side, oldest first. Returns the shares it did not
    // get.
    std::uint32_t take(std::uint32_t symbol, Side side, std::uint32_t shares, std::uint32_t limit,
                       unsigned max_fills) {
        Stock& stock = stocks[symbol];
        for (; max_fills > 0 && shares > 0 && stock.marketable(side, limit); --max_fills) {
            const std::uint32_t handle = stock.best(opposite(side))->head;
            const std::uint32_t fill = std::min(shares, pool[handle].shares);
            const bool improved = random_.chance(threshold(0.02));
            fill_order(handle, fill, improved ? improved_price(stock, pool[handle]) : 0, true);
            shares -= fill;
        }
        return shares;
    }

    // Hidden interest trades; no displayed order is touched.
    void trade_hidden(std::uint32_t symbol, std::uint32_t shares, std::uint32_t price) {
        const std::uint64_t match = new_match(true);
        message('P', symbol).u64(0).c('B').u32(shares).name(stocks[symbol].name).u32(price).u64(match);
    }

    // What a cross would do with the displayed orders as they stand, and with `hidden` shares of one side at
    // any price.
    struct CrossPlan {
        std::uint64_t bids = 0, asks = 0;  // displayed shares that trade
        std::uint32_t price = 0;           // 0: nothing crosses
        std::uint64_t orders = 0;          // bound of the orders touched
    };
    CrossPlan plan_cross(std::uint32_t symbol, Side hidden_side, std::uint64_t hidden) const {
        CrossPlan plan = match_displayed(stocks[symbol]);
        if (plan.price != 0 || hidden == 0) return plan;
        const auto& levels = stocks[symbol].levels[static_cast<std::size_t>(opposite(hidden_side))];
        if (levels.empty()) return plan;
        std::uint64_t taken = 0;
        for (std::size_t i = levels.size(); i-- > 0 && taken < hidden && levels.size() - i <= 2;) {
            plan.price = levels[i].price;
            plan.orders += levels[i].orders;
            taken = std::min(hidden, taken + levels[i].shares);
        }
        (hidden_side == Side::buy ? plan.asks : plan.bids) = taken;
        return plan;
    }

    // All of it at one price, not printed order by order (C, N) but as one bulk print (Q).
    void cross(std::uint32_t symbol, char type, const CrossPlan& plan, std::uint64_t hidden_pairs) {
        Stock& stock = stocks[symbol];
        out.ensure(static_cast<std::size_t>(plan.orders) + 8);
        fill_side(stock, Side::buy, plan.bids, plan.price);
        fill_side(stock, Side::sell, plan.asks, plan.price);
        const std::uint64_t shares = plan.price == 0 ? 0 : std::max(plan.bids, plan.asks) + hidden_pairs;
        const std::uint64_t match = new_match(false);
        message('Q', symbol).u64(shares).name(stock.name).u32(plan.price).u64(match).c(type);
    }

    void break_trade(std::uint32_t symbol, std::uint64_t match) { message('B', symbol).u64(match); }
    struct Print {
        std::uint32_t symbol = 0;
        std::uint64_t match = 0;  // 0: none yet
    };
    const Print& last_print() const { return last_print_; }

    static std::uint32_t mpid(std::uint32_t index) {
        static constexpr char codes[8][5] = {"SIMA", "SIMB", "MKTX", "LIQD", "QUOT", "FLOW", "DESK", "EDGE"};
        std::uint32_t value;
        std::memcpy(&value, codes[index], 4);
        return __builtin_bswap32(value);
    }

    std::uint64_t added_orders() const { return added_orders_; }
    std::uint64_t opened_levels() const { return opened_levels_; }

    OrderPool pool;
    std::vector<Stock> stocks;
    Output out;

  private:
    Fields header(char type, std::uint16_t locate) {
        const std::uint16_t tracking = tracking_;
        tracking_ = static_cast<std::uint16_t>(tracking_ + 2);
        return out.message(type, locate, tracking, now_ns_);
    }

    // About half of the day's references go to orders that are never displayed.
    std::uint64_t new_reference() {
        const std::uint64_t bits = random_.next();
        reference_ += 1 + static_cast<std::uint64_t>(std::countr_zero(bits | 1ull << 20));
        return reference_;
    }

    std::uint64_t new_match(bool printed) {
        match_ += 1 + (random_.next() >> 62);
        if (printed) last_print_.match = match_;
        return match_;
    }

    // Half a tick better for the incoming order than the displayed price.
    static std::uint32_t improved_price(const Stock& stock, const Order& order) {
        const std::uint32_t half = stock.tick / 2u;
        return order.side == Side::buy ? order.price + half : order.price - half;
    }

    // price 0: at the order's own price, message E.
    void fill_order(std::uint32_t handle, std::uint32_t shares, std::uint32_t price, bool printable) {
        const Order& order = pool[handle];
        const std::uint64_t match = new_match(printable);
        if (printable) last_print_.symbol = order.symbol;
        Fields fields = message(price == 0 ? 'E' : 'C', order.symbol);
        fields.u64(order.reference).u32(shares).u64(match);
        if (price != 0) fields.c(printable ? 'Y' : 'N').u32(price);
        Stock& stock = stocks[order.symbol];
        if (shares == order.shares) {
            unlink(stock, pool, handle);
            pool.retire(handle);
        } else {
            reduce(stock, pool, handle, shares);
        }
    }

    void fill_side(Stock& stock, Side side, std::uint64_t shares, std::uint32_t price) {
        while (shares > 0) {
            const std::uint32_t handle = stock.best(side)->head;
            const auto fill =
                static_cast<std::uint32_t>(std::min<std::uint64_t>(shares, pool[handle].shares));
            fill_order(handle, fill, price, false);
            shares -= fill;
        }
    }

    // Volume and price at which a crossed book uncrosses: as much as can trade, at a price that leaves no
    // better order behind.
    static CrossPlan match_displayed(const Stock& stock) {
        CrossPlan plan;
        const auto& bids = stock.levels[0];
        const auto& asks = stock.levels[1];
        std::size_t b = bids.size(), a = asks.size();
        if (b == 0 || a == 0) return plan;
        std::uint64_t bid_left = bids[b - 1].shares, ask_left = asks[a - 1].shares;
        std::uint32_t last_bid = 0, last_ask = 0;
        while (b > 0 && a > 0 && bids[b - 1].price >= asks[a - 1].price) {
            const std::uint64_t volume = std::min(bid_left, ask_left);
            plan.bids += volume;
            last_bid = bids[b - 1].price;
            last_ask = asks[a - 1].price;
            if ((bid_left -= volume) == 0) {
                plan.orders += bids[b - 1].orders;
                bid_left = --b > 0 ? bids[b - 1].shares : 0;
            }
            if ((ask_left -= volume) == 0) {
                plan.orders += asks[a - 1].orders;
                ask_left = --a > 0 ? asks[a - 1].shares : 0;
            }
        }
        plan.asks = plan.bids;
        if (plan.bids == 0) return plan;
        plan.orders += (b > 0 ? bids[b - 1].orders : 0) + (a > 0 ? asks[a - 1].orders : 0);
        const std::uint32_t low = std::max(b > 0 ? bids[b - 1].price : 0, last_ask);
        const std::uint32_t high = std::min(a > 0 ? asks[a - 1].price : last_bid, last_bid);
        plan.price = low + (high - low) / 2 / stock.tick * stock.tick;
        return plan;
    }

    Random random_;
    std::uint64_t now_ns_ = 0, reference_ = 0, match_ = 0, added_orders_ = 0, opened_levels_ = 0;
    std::uint16_t tracking_ = 0;
    Print last_print_;
};

}  // namespace fh::simulate
