// What the arbiter does, as Python tuples in order.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "bind/counter_dict.hpp"
#include "event.hpp"
#include "frame/byte_order.hpp"
#include "frame/moldudp64.hpp"
#include "publish/counters.hpp"

namespace fh::bind {

inline const char* state_name(FeedState state) {
    static constexpr const char* names[] = {"STARTING", "LIVE", "RECOVERING", "STALE", "ENDED"};
    return names[static_cast<std::size_t>(state)];
}

inline const char* health_name(std::uint8_t health) {
    static constexpr const char* names[] = {"untried", "answered", "late", "silent", "refused", "lying"};
    return names[health];
}
inline const char* step_name(std::uint8_t step) {
    static constexpr const char* names[] = {"none",        "other_line", "request",  "retry",
                                            "next_server", "hopeless",   "snapshot", "stale"};
    return names[step];
}

// Sequence numbers of an event, or what else says all of it.
inline nanobind::object event_tuple(const Event& event) {
    const nanobind::bytes session(event.session, strnlen(event.session, sizeof event.session));
    switch (event.type) {
        case EventType::state:
            return nanobind::make_tuple("state", state_name(event.previous), state_name(event.state));
        case EventType::gap_open:
            return nanobind::make_tuple("gap_open", event.first, event.last);
        case EventType::gap_closed:
            return nanobind::make_tuple("gap_closed", event.first, event.last);
        case EventType::gap_lost:
            return nanobind::make_tuple("gap_lost", event.first, event.last);
        case EventType::line_down:
            return nanobind::make_tuple("line_down", event.line);
        case EventType::line_up:
            return nanobind::make_tuple("line_up", event.line);
        case EventType::session_start:
            return nanobind::make_tuple("session_start", session, event.first);
        case EventType::session_end:
            return nanobind::make_tuple("session_end", session, event.first);
        case EventType::snapshot_begin:
            return nanobind::make_tuple("snapshot_begin", event.first);
        case EventType::snapshot_end:
            return nanobind::make_tuple("snapshot_end", event.first);
        case EventType::server:  // with the nanoseconds for which it is left
            return nanobind::make_tuple(
                "server", event.line, health_name(event.before), health_name(event.now),
                event.first == 0 ? 0 : static_cast<std::int64_t>(event.first) - event.ts_ns);
        case EventType::escalation:
            return nanobind::make_tuple("escalation", step_name(event.before), step_name(event.now));
        default:
            return nanobind::make_tuple("event", static_cast<int>(event.type));
    }
}

struct Trace {
    nanobind::list entries;

    void on_event(const Event& event) { entries.append(event_tuple(event)); }
    void on_start_snapshot() { entries.append(nanobind::make_tuple("start_snapshot")); }
    void on_request(std::size_t server, std::span<const std::uint8_t, 20> datagram) {
        const auto [first, count] = frame::load_mold_header(datagram.data());
        entries.append(nanobind::make_tuple("request", server, first, count,
                                            nanobind::bytes(datagram.data(), frame::mold_session_bytes)));
    }
    nanobind::list take() {
        nanobind::list out = entries;
        entries = nanobind::list();
        return out;
    }
};

}  // namespace fh::bind
