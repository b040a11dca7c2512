// What goes wrong, and when: drawn from a seed, so that the seed repeats it.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <vector>

#include "random.hpp"
#include "receive/lossy.hpp"
#include "sequence/settings.hpp"
#include "simulate/exchange.hpp"

namespace soak {

inline constexpr unsigned lines = 2;
inline constexpr unsigned most_servers = 3;

// How a re-request server answers. Every lie is one that a receiver can see through: nobody could tell bytes
// that are wrong but well formed, for they have no check but UDP's.
enum class Answer : std::uint8_t {
    good,
    silent,
    slow,           // up to 80 ms
    lossy,          // every other one lost
    partial,        // one message of many
    overlong,       // more than was asked for
    wrong_session,  // of another day
    other_numbers,  // true messages, but not those asked for
    truncated,
    garbage,
    count
};

enum class Image : std::uint8_t {
    good,
    slow,           // a second or more
    refused,        // no login
    silent,         // nothing for 15 seconds
    cut,            // the connection breaks in the middle
    contradictory,  // one order twice
    old,            // the one given out before
    absurd,         // claims a number that the feed is nowhere near
    count
};

// Holds until the exchange has sent number `end`.
struct Phase {
    std::uint64_t end = 0;
    std::int64_t pause_ns = 0;       // of the exchange, before it
    std::int64_t gap_ns = 0;         // mean time between packets
    std::uint32_t messages = 1;      // mean number of a packet
    bool recut = false;              // line B has packet boundaries of its own
    std::array<bool, lines> dead{};  // a line brings nothing
    std::array<fh::receive::Faults, lines> faults;
    std::array<std::int64_t, lines> skew_ns{};
    std::uint32_t strays = 0;  // foreign packets and absurd numbers in 65,536 packets
    std::array<Answer, most_servers> servers{};
    Image image = Image::good;
};

struct SessionPlan {
    std::uint64_t messages = 0;
    std::uint64_t day = 0;  // messages of the whole day; the session may end before, with full books
    std::uint32_t symbols = 0;
    std::vector<std::uint64_t> starts;  // numbers at which the daemon is started (again), rising
    std::vector<Phase> phases;
    std::int64_t pause_ns = 0;  // before the next session
};

struct Schedule {
    std::uint64_t seed = 0;
    fh::sequence::Settings settings;
    bool one_by_one = false;  // the books are told each message alone
    std::vector<SessionPlan> sessions;
};

class Planner {
  public:
    Planner(std::uint64_t seed, std::uint64_t messages) : random_(seed, 7001), messages_(messages) {
        out_.seed = seed;
    }

    Schedule draw() {
        settings();
        out_.one_by_one = percent(30);
        const unsigned sessions = percent(60) ? 1 : percent(70) ? 2 : 3;
        for (unsigned i = 0; i < sessions; ++i) session(i, messages_ / sessions);
        return out_;
    }

  private:
    bool percent(std::uint32_t share) { return random_.below(100) < share; }
    template <class T, std::size_t n>
    T one_of(const T (&choices)[n]) {
        return choices[random_.below(n)];
    }
    double share(double least, double most) { return least + (most - least) * random_.below(1000) / 1000; }

    void settings() {
        auto& s = out_.settings;
        s.lines = lines;
        s.servers = percent(90) ? 1 + random_.below(most_servers) : 0;
        s.snapshot = percent(s.servers == 0 ? 95 : 75);
        s.start = percent(70) ? fh::sequence::Start::live : fh::sequence::Start::beginning;
        s.first_to_apply_offset = percent(20) ? 1 : 0;
        s.arbitration_ns = one_of({0, 50'000, 300'000, 1'000'000});
        s.timeout_ns = one_of({1'000'000, 5'000'000, 20'000'000, 50'000'000});
        s.retries = s.snapshot ? random_.below(5) : 5 + random_.below(40);
        s.max_outstanding = one_of({1u, 4u, 4u, 16u, 64u});
        s.requests_per_s = one_of({0u, 1000u, 1000u, 100'000u});
        s.hold_messages = random_.log_uniform(7, percent(30) ? 12 : 20);
    }

    void session(unsigned index, std::uint64_t messages) {
        SessionPlan plan;
        plan.symbols = static_cast<std::uint32_t>(random_.log_uniform(3, 9));
        plan.messages = std::max(messages, fh::simulate::Exchange::least_messages(plan.symbols));
        plan.day = percent(40) ? plan.messages : plan.messages * (100 + random_.below(300)) / 100;
        plan.pause_ns = percent(20) ? 0 : random_.below(5000) * std::int64_t{1'000'000};
        if (index == 0) plan.starts.push_back(percent(75) ? 1 : 1 + random_.next() % messages);
        if (percent(15)) plan.starts.push_back(1 + random_.next() % messages);
        std::sort(plan.starts.begin(), plan.starts.end());
        for (std::uint64_t at = 1; at <= messages;) {
            plan.phases.push_back(phase());
            at += random_.log_uniform(8, 15);
            plan.phases.back().end = std::min(at, messages + 1);
        }
        out_.sessions.push_back(std::move(plan));
    }

    Phase phase() {
        Phase out;
        out.pause_ns = percent(10) ? random_.below(4000) * std::int64_t{1'000'000} : 0;
        out.gap_ns = static_cast<std::int64_t>(random_.log_uniform(11, 19));
        out.messages = percent(50) ? 1 : 2 + random_.below(12);
        out.recut = percent(25);
        out.strays = percent(20) ? 1 + random_.below(300) : 0;
        for (std::int64_t& skew : out.skew_ns)
            skew = percent(60) ? random_.below(20'000) : random_.below(3'000'000);
        faults(out);
        if (percent(45)) {
            for (Answer& answer : out.servers) answer = any<Answer>();
        }
        if (percent(40)) out.image = any<Image>();
        return out;
    }
    template <class Kind>
    Kind any() {
        return static_cast<Kind>(random_.below(static_cast<std::uint32_t>(Kind::count)));
    }

    void faults(Phase& out) {
        const std::uint32_t kind = random_.below(100);
        if (kind < 20) return;  // quiet
        if (kind < 28) {
            out.dead[random_.below(lines)] = true;
        } else if (kind < 32) {
            out.dead.fill(true);
        }
        const double burst = percent(40) ? 1 + random_.below(60) : 1;
        const bool both = percent(75);
        for (unsigned line = 0; line < (both ? lines : 1u); ++line) {
            auto& f = out.faults[line];
            if (percent(70)) f.drop = percent(70) ? share(0, 0.05) : share(0.05, 0.5);
            f.drop_burst = burst;
            if (percent(40)) f.duplicate = share(0, 0.1);
            if (percent(40)) f.reorder = share(0, 0.1);
            if (percent(40)) f.corrupt = share(0, 0.05);
        }
    }

    fh::Random random_;
    std::uint64_t messages_;
    Schedule out_;
};

}  // namespace soak
