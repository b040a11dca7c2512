// What happens to the feed itself: states, holes, lines, sessions. Native: never inside a DBN stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
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
    trading = 11,  // a TradingEvent
    server = 12,   // line = index of the re-request server, first = UTC ns until which it is left (0: asked),
                   // now and before: Health
    escalation = 13,  // now and before: Step; first = next expected number
};

// What a re-request server did last.
enum class Health : std::uint8_t {
    untried = 0,
    answered = 1,  // in time
    late = 2,      // an answer came, but after the time-out
    silent = 3,    // no answer in time
    refused = 4,   // its host says that nobody listens there
    lying = 5      // another session, numbers not asked for, a damaged packet
};

// How far the answer to a loss has gone.
enum class Step : std::uint8_t {
    none = 0,        // nothing is missing
    other_line = 1,  // waiting whether another line brings it
    request = 2,     // asked for
    retry = 3,       // asked for again
    next_server = 4,
    hopeless = 5,  // asking cannot catch up with the feed: given up early
    snapshot = 6,  // a snapshot is being loaded
    stale = 7      // lost for good, or never seen, and no snapshot is being loaded
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
    std::uint8_t now;    // what a server or an escalation event tells
    std::uint8_t before;
    std::uint8_t reserved[6];
};
static_assert(sizeof(Event) == 48 && std::is_trivially_copyable_v<Event>);

// What the DBN records of a message have no field for; follows them in the ring. Told for each execution,
// print, cross, broken trade and attributed order of an instrument whose records are published.
enum class TradingKind : char { execution = 'E', print = 'P', cross = 'X', broken = 'B', attribution = 'A' };

struct TradingEvent {
    std::int64_t ts_ns;          // exchange time, UTC
    std::uint64_t sequence;      // of the message, all 64 bits
    std::uint64_t match_number;  // 0: none
    EventType type;              // trading; at the place it has in Event
    FeedState state;
    TradingKind kind;
    char detail;          // execution: printable, Y or N; cross: its type; else NUL
    char participant[4];  // attribution: MPID, space padded; else NUL
    std::uint32_t instrument_id;
    std::uint8_t reserved[4];
    std::uint64_t shares;  // exact, however many; 0 when the message has none
};
static_assert(sizeof(TradingEvent) == sizeof(Event) && offsetof(TradingEvent, type) == offsetof(Event, type));
static_assert(offsetof(TradingEvent, shares) == 40 && std::is_trivially_copyable_v<TradingEvent>);

// Of the body of an `event` record, as it lies in the ring.
inline bool is_trading(const std::byte* body) {
    return static_cast<EventType>(body[offsetof(Event, type)]) == EventType::trading;
}
inline std::uint32_t trading_instrument_of(const std::byte* body) {
    std::uint32_t id;
    std::memcpy(&id, body + offsetof(TradingEvent, instrument_id), sizeof id);
    return id;
}

}  // namespace fh
