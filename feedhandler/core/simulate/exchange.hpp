// A trading day of the simulated exchange, message by message, from S O to S C. Memory is bounded; nothing
// depends on a clock.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "simulate/auctions.hpp"
#include "simulate/clock.hpp"
#include "simulate/day.hpp"
#include "simulate/flow.hpp"
#include "simulate/halts.hpp"
#include "simulate/market.hpp"
#include "simulate/symbols.hpp"

namespace fh::simulate {

struct ExchangeSettings {
    std::uint64_t messages = 1'000'000;  // of the whole day, exactly; 0: trading never closes
    std::uint32_t symbols = 1000;        // 1..65534
    std::uint64_t seed = 1;
    std::uint32_t max_orders = 4u << 20;  // resting at once
};

class Exchange {
  public:
    explicit Exchange(const ExchangeSettings& settings)
        : settings_(settings),
          listings_(make_listings(settings.symbols, settings.seed)),
          market_(listings_, settings.max_orders, settings.seed),
          flow_(market_, listings_, settings.messages != 0 ? settings.messages / 2 : 1u << 23, settings.seed),
          halts_(market_, flow_),
          clock_(settings.seed),
          random_(settings.seed, 105),
          endless_(settings.messages == 0) {
        plan_day();
    }

    // The least number of messages a day of so many symbols has.
    static std::uint64_t least_messages(std::uint64_t symbols) { return 5 * symbols + 8; }

    // Some more records (u16 length + message), about `bytes` of them; valid until the next call. Empty: the
    // day is over.
    std::span<const std::uint8_t> next(std::size_t bytes) {
        market_.out.clear();
        while (phase_ != Phase::over && market_.out.size() < bytes) event();
        return {market_.out.data(), market_.out.size()};
    }

    bool over() const { return phase_ == Phase::over; }
    const Market& market() const { return market_; }
    const Flow& flow() const { return flow_; }

  private:
    const PhasePlan& plan() const { return phase_plans[static_cast<std::size_t>(phase_)]; }
    std::uint64_t target() const { return targets_[static_cast<std::size_t>(phase_)]; }
    std::uint64_t sent() const { return market_.out.total(); }

    void plan_day() {
        const std::uint64_t symbols = settings_.symbols;
        total_ = settings_.messages;
        const std::uint64_t nominal = endless_ ? std::max<std::uint64_t>(400'000, 40 * symbols) : total_;
        const std::uint64_t flow = nominal - std::min(nominal, least_messages(symbols));
        positions_ = std::min(2 * symbols, flow / 50);
        for (std::size_t i = 0; i < phases; ++i) {
            const std::uint64_t before =
                3 * symbols + 3 + positions_ + (phase_plans[i].flow_until > 60 ? symbols + 1 : 0);
            targets_[i] = before + (flow - positions_) * phase_plans[i].flow_until / 1000;
        }
        const std::uint64_t rich = flow >= 2000;
        open_imbalances_ = nominal * open_imbalance_share / 1000;
        close_imbalances_ = nominal * close_imbalance_share / 1000;
        has_ipo_ = rich && symbols >= 8;
        if (rich) plan_halts(nominal);
    }

    void plan_halts(std::uint64_t nominal) {
        // A real day has some dozens; a short one fewer, but each kind at least once.
        const std::uint64_t count = std::clamp<std::uint64_t>(nominal / 400'000, 1, 40);
        const std::uint64_t first = time_of_day(9, 40), last = time_of_day(15, 30);
        for (std::uint64_t i = 0; i < count; ++i) {
            const std::uint64_t at = first + (last - first) * i / count;
            const auto jitter = [&] { return (last - first) / count / 1000 * random_.below(900); };
            halts_.plan(at + jitter(), HaltKind::collar);
            halts_.plan(at + jitter(), HaltKind::news);
            if (i % 2 == 0) halts_.plan(at + jitter(), HaltKind::operational);
        }
        if (!has_ipo_) return;
        halts_.plan(time_of_day(10, 45), HaltKind::ipo, by_rank(settings_.symbols - 1));
        halts_.plan(time_of_day(11, 20), HaltKind::direct_listing, by_rank(settings_.symbols - 2));
    }

    std::uint32_t by_rank(std::uint32_t rank) const {
        for (std::uint32_t i = 0; i < listings_.size(); ++i) {
            if (listings_[i].rank == rank) return i;
        }
        return 0;
    }

    // Messages that must still come, whatever happens.
    std::uint64_t mandatory_left() const {
        const std::uint64_t symbols = settings_.symbols;
        std::uint64_t left = 2;                                                // S E, S C
        if (phase_ < Phase::after) left += symbols + (phase_ < Phase::close);  // S M, closing crosses
        if (phase_ == Phase::close) left -= index_;
        if (phase_ < Phase::opening) left += symbols + (phase_ < Phase::open);  // S Q, opening crosses
        if (phase_ == Phase::open) left -= index_;
        if (phase_ < Phase::early) left += 1;  // S S
        return left;
    }
    std::uint64_t spare() const {
        if (endless_) return ~0ull >> 1;
        const std::uint64_t used = sent() + mandatory_left();
        return used < total_ ? total_ - used : 0;
    }

    void enter(Phase phase) {
        phase_ = phase;
        index_ = 0;
    }

    void event() {
        market_.out.ensure(64);
        switch (phase_) {
            case Phase::listing:
                return list();
            case Phase::positions:
                return positions();
            case Phase::early:
                return flow_phase(Phase::imbalances, false);
            case Phase::imbalances:
                return flow_phase(Phase::open, true);
            case Phase::open:
                return crosses('O', Phase::opening);
            case Phase::opening:
                return flow_phase(Phase::morning, false);
            case Phase::morning:
                return flow_phase(Phase::midday, false);
            case Phase::midday:
                return flow_phase(Phase::late, false);
            case Phase::late:
                return flow_phase(Phase::close, true);
            case Phase::close:
                return crosses('C', Phase::after);
            case Phase::after:
                return after_hours();
            case Phase::end:
                return end();
            case Phase::over:
                return;
        }
    }

    void system(char code) {
        market_.begin_event(clock_.now_ns());
        market_.market_wide('S').c(code);
    }

    // S O, then R, H, Y stock by stock.
    void list() {
        if (sent() == 0) {
            clock_.jump(time_of_day(3, 4, 32));
            system('O');
            clock_.jump(time_of_day(3, 7));
        }
        clock_.advance(time_of_day(3, 7, 25), 3 * (settings_.symbols - index_), 100);
        market_.begin_event(clock_.now_ns());
        directory(index_);
        const bool unlisted = has_ipo_ && listings_[index_].rank + 2u >= settings_.symbols;
        if (unlisted) {
            send_state(market_, index_, Trading::halted, "IPO1");
        } else {
            send_state(market_, index_, Trading::trading, "    ");
        }
        send_short_sale(market_, index_, random_.below(50) == 0 ? '2' : '0');
        if (++index_ == settings_.symbols) enter(Phase::positions);
    }

    void directory(std::uint32_t symbol) {
        static constexpr char categories[] = {'Q', 'G', 'S', 'N', 'A', 'P'};
        market_.message('R', symbol)
            .name(market_.stocks[symbol].name)
            .c(categories[random_.below(6)])
            .c('N')
            .u32(100)
            .c('N')
            .c('C')
            .text("Z ")
            .c('P')
            .c('N')
            .c('N')
            .c(listings_[symbol].rank < 500 ? '1' : '2')
            .c('N')
            .u32(0)
            .c('N');
    }

    // Market makers, the decline levels of the day, then the system opens.
    void positions() {
        if (index_ < positions_) {
            clock_.advance(time_of_day(3, 8), positions_ - index_, 100);
            market_.begin_event(clock_.now_ns());
            send_position(market_, index_ % settings_.symbols,
                          index_ < settings_.symbols ? 0 : 1 + index_ % 7, 'A');
            ++index_;
            return;
        }
        clock_.jump(time_of_day(3, 30));
        market_.begin_event(clock_.now_ns());
        if (spare() > 0)
            market_.market_wide('V').u64(441'036'000'000).u64(412'581'000'000).u64(379'385'000'000);
        clock_.jump(time_of_day(4, 0));
        system('S');
        clock_.jump(clock_.now_ns() + 667'000'000);
        enter(Phase::early);
    }

    void flow_phase(Phase next, bool imbalances) {
        // Without an end the time left is always spread over 2^26 messages more: the clock slows down, midday
        // stays.
        const std::uint64_t limit = endless_ && phase_ == Phase::midday ? sent() + (1u << 26) : target();
        if (sent() >= limit || spare() < Flow::max_messages) return end_flow(next);
        clock_.advance(plan().end_ns, limit - sent(), plan().mean_burst);
        if (halts_.next_ns() <= clock_.now_ns() && spare() > market_.pool.live() + Halts::max_messages) {
            market_.begin_event(halts_.next_ns() > market_.now_ns() ? halts_.next_ns() : market_.now_ns());
            return halts_.run_next();
        }
        market_.begin_event(clock_.now_ns());
        if (imbalances && imbalance(limit - sent())) return;
        if (random_.below(1u << 13) == 0) return rare();
        flow_.step();
    }

    // Spreads the phase's imbalance messages evenly over what is left of it, stock after stock.
    bool imbalance(std::uint64_t left) {
        std::uint64_t& budget = phase_ == Phase::imbalances ? open_imbalances_ : close_imbalances_;
        if (budget == 0 ||
            random_.below(static_cast<std::uint32_t>(std::min<std::uint64_t>(left, 1u << 31))) >= budget)
            return false;
        --budget;
        send_imbalance(market_, random_, index_++ % settings_.symbols,
                       phase_ == Phase::imbalances ? 'O' : 'C');
        return true;
    }

    // Interest of retail investors, now and then a market maker's change.
    void rare() {
        const std::uint32_t symbol = flow_.draw_symbol();
        if (random_.below(8) == 0) {
            const std::uint32_t maker = random_.below(8);
            return send_position(market_, symbol, maker, random_.below(2) == 0 ? 'E' : 'A');
        }
        send_interest(symbol);
    }

    void send_interest(std::uint32_t symbol) {
        static constexpr char interest[] = {'B', 'S', 'A', 'N'};
        market_.message('N', symbol).name(market_.stocks[symbol].name).c(interest[random_.below(4)]);
    }

    void end_flow(Phase next) {
        once_a_day();
        clock_.jump(plan().end_ns);
        enter(next);
    }

    // Messages that a day has once, at the end of a phase, as far as there is room for them.
    void once_a_day() {
        market_.begin_event(clock_.now_ns());
        if (phase_ == Phase::early && has_ipo_ && spare() > 32) {
            const std::uint32_t symbol = by_rank(settings_.symbols - 1);
            const std::uint32_t price = market_.stocks[symbol].anchor / 100 * 100;
            market_.message('K', symbol)
                .name(market_.stocks[symbol].name)
                .u32((10 * 60 + 45) * 60)
                .c('A')
                .u32(price);
        }
        if (phase_ == Phase::morning && spare() > 32) send_interest(0);
        // Level 1, late in the afternoon: a decline after 15:25 is announced but halts nothing.
        if (phase_ == Phase::midday && has_ipo_ && spare() > 32) market_.market_wide('W').c('1');
    }

    void crosses(char type, Phase next) {
        if (index_ == 0 && !crossing_) {
            clock_.jump(clock_.now_ns() + 70'000);
            system(type == 'O' ? 'Q' : 'M');
            crossing_ = true;
        }
        if (index_ == settings_.symbols) {
            crossing_ = false;
            return enter(next);
        }
        clock_.jump(clock_.now_ns() + 100 + random_.below(900));
        market_.begin_event(clock_.now_ns());
        const std::uint32_t symbol = index_++;  // its Q is no longer owed to `spare`, so leave room for it
        const std::uint64_t room = spare();
        if (market_.stocks[symbol].open())
            run_cross(market_, random_, symbol, type, room > 1 ? std::min<std::uint64_t>(room - 1, 256) : 0);
        if (spare() > 200 && random_.below(2) == 0) flow_.step();
    }

    void after_hours() {
        const std::uint64_t left = spare();
        const std::uint64_t kept = total_ / 100;
        if (left == 0) {
            clock_.jump(plan().end_ns);
            return enter(Phase::end);
        }
        if (broken_ == 0 && market_.last_print().match != 0) broken_ = 1;
        clock_.advance(plan().end_ns, left, plan().mean_burst);
        market_.begin_event(clock_.now_ns());
        if (broken_ == 1) {
            broken_ = 2;
            return market_.break_trade(market_.last_print().symbol, market_.last_print().match);
        }
        flow_.set_executions(left > Flow::max_messages);
        if (market_.pool.live() > kept && random_.below(16) > 0 && flow_.purge()) return;
        if (left > Flow::max_messages) {
            flow_.step();
        } else if (!flow_.step_single()) {
            send_interest(0);
        }
    }

    void end() {
        clock_.jump(time_of_day(20, 0));
        system('E');
        clock_.jump(time_of_day(20, 5));
        system('C');
        enter(Phase::over);
    }

    ExchangeSettings settings_;
    std::vector<Listing> listings_;
    Market market_;
    Flow flow_;
    Halts halts_;
    DayClock clock_;
    Random random_;
    bool endless_, has_ipo_ = false, crossing_ = false;
    Phase phase_ = Phase::listing;
    std::uint32_t index_ = 0;  // within the phase
    std::uint64_t total_ = 0, positions_ = 0, open_imbalances_ = 0, close_imbalances_ = 0;
    std::array<std::uint64_t, phases> targets_{};
    int broken_ = 0;
};

}  // namespace fh::simulate
