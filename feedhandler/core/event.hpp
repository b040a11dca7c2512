// What happens to the feed itself: states, holes, lines, sessions. Native: never inside a DBN stream.
#pragma once

#include <cstdint>
#include <type_traits>

namespace fh {

// The numbers are part of the wire format (ZeroMQ header) and of shared memory.
enum class FeedState : std::uint8_t { starting = 0, live = 1, recovering = 2, stale = 3, ended = 4 };
inline constexpr std::uint8_t state_dead = 255;  // told by readers only, never written

enum class EventType : std::uint8_t {
    state = 1,          // state, previous
    gap_open = 2,       // first, last
    gap_closed = 3,     // first, last
    gap_lost = 4,       // first, last
    line_down = 5,      // line
    line_up = 6,        // line
    session_start = 7,  // session, first = next expected number
    session_end = 8,    // session, first = next expected number (end-of-session number)
    snapshot_begin = 9,
    snapshot_end = 10,
};

// One cache line; travels in the ring as schema `event`.
struct Event {
    std::int64_t ts_ns;   // UTC
    std::uint64_t first;  // inclusive; 0 when the event has no range
    std::uint64_t last;   // inclusive
    EventType type;
    FeedState state;     // after the event
    FeedState previous;  // before it
    std::uint8_t line;   // index, 255 = none
    char session[12];    // MoldUDP64 session, NUL padded
    std::uint8_t reserved[8];
};
static_assert(sizeof(Event) == 48 && std::is_trivially_copyable_v<Event>);

}  // namespace fh
