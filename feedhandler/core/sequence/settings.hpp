// What an arbiter is told once, before the first packet.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>

namespace fh::sequence {

inline constexpr std::int64_t never_ns = std::numeric_limits<std::int64_t>::max();

enum class Start : std::uint8_t {
    live,      // the first packet's number is the first expected one
    beginning  // number 1 is; what lies before the first packet is recovered
};

inline constexpr std::size_t most_outstanding = 1024;

struct Settings {
    std::size_t lines = 1;    // at most max_lines
    std::size_t servers = 0;  // re-request servers in order of preference, at most max_servers
    std::string
        session;  // ten characters, shorter ones are padded right with blanks; "" = the first one seen
    Start start = Start::live;
    std::uint64_t first_sequence = 0;  // expected number fixed in advance (replay); 0 = by `start`
    std::int64_t line_down_ns = 3'000'000'000;

    std::int64_t arbitration_ns = 1'000'000;  // wait for the other lines before asking
    std::int64_t timeout_ns = 50'000'000;     // a request without an answer is repeated after this
    std::uint64_t retries = 4;                // per server: 1 + retries requests, then the next
    std::size_t max_outstanding = 4;          // requests in flight, at most most_outstanding
    std::uint64_t requests_per_s = 1000;      // 0 = unlimited; a burst of max_outstanding may leave at once

    std::size_t hold_messages = 1'000'000;  // bound of what is held behind a hole
    std::size_t hold_bytes = 0;  // bound of its bytes, at most 4 GiB; 0 = 64 for each message, at least 1 MiB

    // Of what was held so many messages are delivered in one call; the rest in calls of on_timer, which is
    // due at once, so that packets that arrive meanwhile are taken. Some half a millisecond's worth.
    std::size_t slice_messages = 2048;

    // A number further than this ahead of all known ones is believed only when a second packet confirms it:
    // one damaged or forged header must not open a hole of astronomic size. 0 = believe all.
    std::uint64_t max_gap_messages = 10'000'000;

    bool snapshot = false;                    // is there a snapshot server
    std::uint64_t first_to_apply_offset = 0;  // 0: the number in G is the first to apply, 1: the one after it
    std::int64_t splice_timeout_ns = 15'000'000'000;  // for the lines to reach the number of a snapshot

    // What an earlier run has kept of the session may be had: a session joined in its middle is held from its
    // first packet on, until an image comes or is refused.
    bool restart = false;
    // Servers have exactly what the lines have, damage included: their replies are not looked at. For replay.
    bool believe_servers = false;

    // Does another session begin after the end of this one, and does number 1 start this one anew after all
    // lines were down? Else only when let_session_go() was called: a replay knows from its input.
    bool rollover_after_end = true;
    bool restart_after_silence = true;
};

}  // namespace fh::sequence
