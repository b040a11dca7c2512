// What is known of each multicast line: which numbers it has brought, when it was heard last.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>

#include "message.hpp"
#include "publish/counters.hpp"
#include "sequence/line_window.hpp"
#include "sequence/settings.hpp"

namespace fh::sequence {

class Lines {
  public:
    // Both references must outlive this. `slots`: numbers that a window spans.
    Lines(const Settings& settings, Counters& counters, std::size_t slots)
        : settings_(settings), counters_(counters) {
        for (std::size_t i = 0; i < settings.lines; ++i) lines_[i].window.emplace(slots);
    }

    // True: the line was down until now.
    bool heard(std::size_t line, std::int64_t now_ns) {
        lines_[line].heard_ns = now_ns;
        if (counters_.lines[line].down == 0) [[likely]]
            return false;
        counters_.lines[line].down = 0;
        deadline_ns_ = std::min(deadline_ns_, now_ns + settings_.line_down_ns);
        return true;
    }

    // The line has brought these numbers.
    void mark(std::size_t line, std::uint64_t first, std::uint64_t end) {
        lines_[line].window->mark(first, end);
    }

    // Calls went_down(line) for each that is silent for too long, since deadline_ns() or earlier.
    template <class F>
    void check(std::int64_t now_ns, F&& went_down) {
        if (now_ns < deadline_ns_) return;
        deadline_ns_ = never_ns;
        for (std::size_t i = 0; i < settings_.lines; ++i) {
            if (counters_.lines[i].down != 0) continue;
            if (lines_[i].heard_ns == never_heard)
                lines_[i].heard_ns = now_ns;  // the first look: silence starts now
            const std::int64_t due_ns = lines_[i].heard_ns + settings_.line_down_ns;
            if (due_ns > now_ns) {
                deadline_ns_ = std::min(deadline_ns_, due_ns);
                continue;
            }
            counters_.lines[i].down = 1;
            went_down(i);
        }
    }
    std::int64_t deadline_ns() const { return deadline_ns_; }

    bool all_down() const {
        const auto lines = std::span(counters_.lines).first(settings_.lines);
        return std::ranges::all_of(lines, [](const LineCounters& line) { return line.down != 0; });
    }
    // Has the line brought a message of this session?
    bool has_brought(std::size_t line) const {
        return counters_.lines[line].messages != lines_[line].messages_before;
    }

    // Brings `missing` up to date, as of the number that the feed waits for; 0: before the first packet.
    void refresh_counters(std::uint64_t next) {
        for (std::size_t i = 0; i < settings_.lines; ++i) {
            const std::uint64_t current = next == 0 ? 0 : lines_[i].window->missing(next);
            counters_.lines[i].missing = lines_[i].missing_before + current;
        }
    }

    // The session is over, at `next`: what its lines lack stays in the counters.
    void leave_session(std::uint64_t next) {
        refresh_counters(next);
        for (std::size_t i = 0; i < settings_.lines; ++i) {
            lines_[i].missing_before = counters_.lines[i].missing;
            lines_[i].messages_before = counters_.lines[i].messages;
        }
    }
    void start_session(std::uint64_t first) {
        for (std::size_t i = 0; i < settings_.lines; ++i) lines_[i].window->restart(first);
    }

  private:
    static constexpr std::int64_t never_heard = std::numeric_limits<std::int64_t>::min();
    struct Line {
        std::optional<LineWindow> window;
        std::uint64_t missing_before = 0;   // in sessions that are over
        std::uint64_t messages_before = 0;  // likewise
        std::int64_t heard_ns = never_heard;
    };

    const Settings& settings_;
    Counters& counters_;
    std::array<Line, max_lines> lines_;
    std::int64_t deadline_ns_ = std::numeric_limits<std::int64_t>::min();
};

}  // namespace fh::sequence
