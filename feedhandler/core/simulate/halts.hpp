// Halts of single stocks, from the first message to the resumption: news (H), price collar (P, LUDP), the
// exchange's own (h), and the first trade of an IPO or direct listing.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "simulate/auctions.hpp"
#include "simulate/clock.hpp"

namespace fh::simulate {

enum class HaltKind : std::uint8_t { news, collar, operational, ipo, direct_listing };

class Halts {
  public:
    Halts(Market& market, Flow& flow) : market_(market), flow_(flow) {}

    static constexpr std::uint32_t any_symbol = ~0u;
    static constexpr std::uint64_t max_messages =
        16;  // of one event, and one more for each order that trades in a cross

    // A halt that is to begin at a time; `any_symbol`: one that trades then, the busy more likely.
    void plan(std::uint64_t at_ns, HaltKind kind, std::uint32_t symbol = any_symbol) {
        insert({at_ns, symbol, kind, 0, 0});
    }
    std::uint64_t next_ns() const { return pending_.empty() ? ~0ull : pending_.back().due_ns; }

    // The next step of the halt that is due.
    void run_next() {
        Halt halt = pending_.back();
        pending_.pop_back();
        if (halt.symbol == any_symbol && !choose(halt)) return;
        const bool goes_on = halt.kind == HaltKind::operational ? operational(halt) : regulatory(halt);
        ++halt.stage;
        if (goes_on) insert(halt);
    }

  private:
    struct Halt {
        std::uint64_t due_ns;
        std::uint32_t symbol;
        HaltKind kind;
        std::uint8_t stage, extensions;
    };
    static constexpr std::uint8_t quoting_stage = 4, imbalance_stages = 4;

    void insert(const Halt& halt) {  // sorted, the earliest at the back
        const auto later = [](const Halt& a, const Halt& b) { return a.due_ns > b.due_ns; };
        pending_.insert(std::upper_bound(pending_.begin(), pending_.end(), halt, later), halt);
    }

    bool choose(Halt& halt) {
        for (int tries = 0; tries < 32; ++tries) {
            halt.symbol = flow_.draw_symbol();
            if (market_.stocks[halt.symbol].open()) return true;
        }
        return false;
    }

    bool operational(Halt& halt) {
        send_operational(market_, halt.symbol, halt.stage == 0);
        halt.due_ns += 180 * second_ns;
        return halt.stage == 0;
    }

    // Stage 0 halt, 1 collar, 2 extension or none, 4 quotation, 5.. imbalances, then the cross and trading
    // again.
    bool regulatory(Halt& halt) {
        if (halt.stage < quoting_stage) return begin(halt);
        if (halt.stage == quoting_stage) {
            if (halt.kind == HaltKind::ipo)
                send_state(market_, halt.symbol, Trading::quoting, "IPOQ");
            else if (halt.kind == HaltKind::news)
                send_state(market_, halt.symbol, Trading::quoting, "T3  ");
            else
                send_state(market_, halt.symbol, Trading::quoting, "    ");
            halt.due_ns += 30 * second_ns;
            return true;
        }
        if (halt.stage <= quoting_stage + imbalance_stages) {
            for (int i = 0; i < 5; ++i) flow_.quote(halt.symbol);
            if (halt.kind == HaltKind::direct_listing) send_price_discovery(market_, halt.symbol);
            send_imbalance(market_, flow_.random(), halt.symbol, 'H');
            halt.due_ns += second_ns;
            return true;
        }
        run_cross(market_, flow_.random(), halt.symbol, 'H', ~0ull);
        send_state(market_, halt.symbol, Trading::trading, "    ");
        return false;
    }

    bool begin(Halt& halt) {
        if (halt.kind == HaltKind::ipo || halt.kind == HaltKind::direct_listing) {
            halt.stage = quoting_stage - 1;  // halted since the morning; quoting comes next
            return true;
        }
        if (halt.kind == HaltKind::news) {
            send_state(market_, halt.symbol, Trading::halted, "T1  ");
            halt.stage = quoting_stage - 1;
            halt.due_ns += 300 * second_ns;
            return true;
        }
        if (halt.stage == 0) {
            send_state(market_, halt.symbol, Trading::paused, "LUDP");
            halt.due_ns += 290'000;
            return true;
        }
        send_collar(market_, halt.symbol, halt.extensions++);
        const bool extended = halt.stage == 1 && flow_.random().below(3) == 0;
        if (!extended) halt.stage = quoting_stage - 1;
        if (!extended && flow_.random().below(2) == 0) send_short_sale(market_, halt.symbol, '1');
        halt.due_ns += 300 * second_ns;
        return true;
    }

    Market& market_;
    Flow& flow_;
    std::vector<Halt> pending_;
};

}  // namespace fh::simulate
