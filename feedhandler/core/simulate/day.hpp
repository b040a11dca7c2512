// The phases of a trading day: when each ends, and how much of the day's order flow falls into it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "simulate/clock.hpp"

namespace fh::simulate {

enum class Phase : std::uint8_t {
    listing,     // S O, directory
    positions,   // market makers, decline levels, S S
    early,       // orders before the open
    imbalances,  // and the opening's imbalances
    open,        // S Q, opening crosses
    opening,     // the rush after them
    morning,
    midday,
    late,   // with the close's imbalances
    close,  // S M, closing crosses
    after,  // trading goes on, most orders are withdrawn
    end,    // S E, S C
    over
};
inline constexpr std::size_t phases = static_cast<std::size_t>(Phase::over) + 1;

// Of a phase with order flow.
struct PhasePlan {
    std::uint64_t end_ns;
    std::uint32_t flow_until;  // per mille of the day's flow that have passed by its end
    std::uint32_t mean_burst;  // messages
};

inline constexpr std::array<PhasePlan, phases> phase_plans = [] {
    std::array<PhasePlan, phases> plans{};
    const auto set = [&](Phase phase, std::uint64_t end, std::uint32_t until, std::uint32_t burst) {
        plans[static_cast<std::size_t>(phase)] = {end, until, burst};
    };
    set(Phase::early, time_of_day(9, 25), 40, 8);
    set(Phase::imbalances, time_of_day(9, 30), 60, 16);
    set(Phase::opening, time_of_day(9, 30, 2), 90, 4000);
    set(Phase::morning, time_of_day(10, 0), 220, 64);
    set(Phase::midday, time_of_day(15, 50), 850, 32);
    set(Phase::late, time_of_day(16, 0), 955, 64);
    set(Phase::after, time_of_day(20, 0), 1000, 8);
    return plans;
}();

inline constexpr std::uint64_t open_imbalance_share = 5,
                               close_imbalance_share = 9;  // per mille of the messages

}  // namespace fh::simulate
