// The soak in one process: schedule after schedule, each drawn from its seed, one JSON line each on stdout.
//   soak --seed FIRST [--step N] [--schedules N] [--seconds S] [--messages N] [--sabotage KIND]
// Ends with status 1 behind the first schedule in which a book was wrong while LIVE.
#include <time.h>

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iterator>
#include <string>

#include "world.hpp"

namespace {

using namespace soak;

struct Options {
    std::uint64_t seed = 1, step = 1, schedules = ~0ull, messages = 250'000;
    double seconds = 1e9;
    Sabotage sabotage = Sabotage::none;
};

double elapsed_s() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

Sabotage sabotage_of(const std::string& name) {
    static constexpr const char* names[] = {"none", "level", "skip", "state", "flag", "splice", "clear"};
    for (std::size_t i = 0; i < std::size(names); ++i) {
        if (name == names[i]) return static_cast<Sabotage>(i);
    }
    std::fprintf(stderr, "soak: --sabotage %s: unknown\n", name.c_str());
    std::exit(2);
}

Options parse(int argc, char** argv) {
    Options options;
    for (int i = 1; i + 1 < argc; i += 2) {
        const std::string name = argv[i];
        const char* value = argv[i + 1];
        if (name == "--seed") options.seed = std::strtoull(value, nullptr, 10);
        if (name == "--step") options.step = std::strtoull(value, nullptr, 10);
        if (name == "--schedules") options.schedules = std::strtoull(value, nullptr, 10);
        if (name == "--messages") options.messages = std::strtoull(value, nullptr, 10);
        if (name == "--seconds") options.seconds = std::strtod(value, nullptr);
        if (name == "--sabotage") options.sabotage = sabotage_of(value);
    }
    return options;
}

// Returns what was wrong, or nothing.
std::string play(std::uint64_t seed, const Options& options) {
    CheckCounts checks;
    Happened happened;
    std::string wrong;
    const double began_s = elapsed_s();
    try {
        World(Planner(seed, options.messages).draw(), options.sabotage, checks, happened).play();
    } catch (const std::exception& error) {
        wrong = error.what();
    }
    std::printf("{\"seed\": %" PRIu64 ", \"wrong\": \"%s\", \"seconds\": %.3f", seed, wrong.c_str(),
                elapsed_s() - began_s);
    const std::pair<const char*, std::uint64_t> counts[] = {
        {"messages", checks.messages},
        {"live_messages", checks.live_messages},
        {"books_compared", checks.books},
        {"whole_tables_compared", checks.whole_tables},
        {"records_checked", checks.records},
        {"mbp10_records_compared", checks.record_levels},
        {"packets_dropped", happened.packets_dropped},
        {"holes", happened.holes},
        {"holes_lost", happened.holes_lost},
        {"recovered_line", happened.recovered_line},
        {"recovered_rewind", happened.recovered_rewind},
        {"recovered_snapshot", happened.recovered_snapshot},
        {"requests", happened.requests},
        {"useless_replies", happened.useless_replies},
        {"snapshots", happened.snapshots},
        {"snapshots_failed", happened.snapshots_failed},
        {"rollovers", happened.rollovers},
        {"starts", happened.starts},
        {"late_starts", happened.late_starts},
    };
    for (const auto& [name, count] : counts) std::printf(", \"%s\": %" PRIu64, name, count);
    std::printf("}\n");
    std::fflush(stdout);
    return wrong;
}

}  // namespace

int main(int argc, char** argv) {
    const Options options = parse(argc, argv);
    const double end_s = elapsed_s() + options.seconds;
    for (std::uint64_t i = 0; i < options.schedules && elapsed_s() < end_s; ++i) {
        if (!play(options.seed + i * options.step, options).empty()) return 1;
    }
    return 0;
}
