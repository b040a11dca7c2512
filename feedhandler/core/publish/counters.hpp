// Every counter, once: its name (as in `stat --json`), and its one-line description, from which the metrics'
// HELP, `stat` and the docs are made.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "../message.hpp"

namespace fh {

// X(name, description): one set per line
#define FH_LINE_COUNTERS(X)                                                                            \
    X(packets, "datagrams that arrived on the line, whatever they were")                               \
    X(bytes, "bytes of those datagrams, UDP payload only")                                             \
    X(messages, "messages the line brought: won + late")                                               \
    X(won, "messages this line delivered first")                                                       \
    X(late, "messages this line brought after they were already in")                                   \
    X(missing, "numbers below next_sequence that the line has not brought; a late copy takes it back") \
    X(malformed, "short or badly framed packets, whatever their session")                              \
    X(foreign_session, "well-formed packets of another session, ignored")                              \
    X(kernel_drops, "datagrams the kernel dropped for want of socket buffer")                          \
    X(down, "1 while the line is silent for longer than receive.line_down_s")                          \
    X(timestamp_kind, "who told the newest datagram's time: 0 none, 1 user, 2 kernel, 3 hardware")     \
    X(user_times, "datagrams stamped by the receive thread")                                           \
    X(kernel_times, "datagrams stamped by the kernel")                                                 \
    X(hardware_times, "datagrams stamped by the network device")                                       \
    X(bad_times, "datagrams whose time is not to be trusted: F_BAD_TS_RECV on their records")          \
    X(napi_id, "NAPI that brought the newest datagram; 0: none was seen, busy polling does nothing")

// Of receive modes that take frames from the device; all stay 0 where the kernel takes them (mode "socket").
#define FH_RECEIVE_COUNTERS(X)                                                                     \
    X(other_traffic, "frames for no line: another group, port, sender or protocol")                \
    X(fragments, "IPv4 fragments, refused")                                                        \
    X(tagged, "frames with a VLAN tag, refused: a line on a VLAN is a line on that VLAN's device") \
    X(bad_frames, "frames cut short or with lengths that contradict each other")                   \
    X(bad_checksums, "frames of a line whose IPv4 or UDP checksum is wrong")                       \
    X(by_kernel, "datagrams of the lines that the kernel brought although the mode goes past it")  \
    X(device_drops,                                                                                \
      "frames dropped by the device or its ring; also kernel_drops of a line that is alone on its device")

// The host's clocks, as of the supervisor's last look.
#define FH_CLOCK_COUNTERS(X)                                                                     \
    X(synchronised, "1 while the kernel says that the system's clock is synchronised")           \
    X(trusted, "1 while times of the system's clock are trusted")                                \
    X(divergence_ns, "estimated distance of the system's clock from UTC; 16 s: unknown")         \
    X(offset_ns, "by how much the kernel is still moving the clock, either way")                 \
    X(estimated_error_ns, "error that the clock's discipline has told the kernel; 16 s: none")   \
    X(maximum_error_ns, "bound of the error; the kernel lets it grow by 500 us a second")        \
    X(granularity_ns, "smallest step of the system's clock, or smallest seen")                   \
    X(tai_offset_s, "TAI minus UTC, as the kernel knows it; 0: it does not")                     \
    X(hardware_clocks, "lines' devices with a clock of their own")                               \
    X(hardware_trusted, "1 while times of these are trusted")                                    \
    X(hardware_lead_s, "what is taken off hardware times to make them UTC")                      \
    X(hardware_divergence_ns, "largest distance of these clocks, after that, from the system's") \
    X(feed_error_ns, "distance of the feed's own clock, which does not jump, from the system's")

#define FH_GAP_COUNTERS(X)                                           \
    X(open, "holes not yet closed or given up")                      \
    X(total, "holes ever opened")                                    \
    X(messages, "messages that were missing when a hole was opened") \
    X(recovered_line, "of them, brought by another line")            \
    X(recovered_rewind, "of them, brought by a re-request server")   \
    X(recovered_snapshot, "of them, covered by a snapshot")          \
    X(unrecovered, "of them, lost for good")

#define FH_RECOVERY_COUNTERS(X)                               \
    X(requests, "re-request datagrams sent")                  \
    X(retries, "of them, repeated because no answer came")    \
    X(timeouts, "requests never answered in time")            \
    X(replies, "datagrams that came from re-request servers") \
    X(useless_replies, "of them, without one message that was still missing")

// One set per re-request server.
#define FH_SERVER_COUNTERS(X)                                                                  \
    X(requests, "re-request datagrams sent to the server")                                     \
    X(answered, "requests it answered in time")                                                \
    X(late, "requests it answered, but after recovery.timeout_ms")                             \
    X(silent, "requests it did not answer in time")                                            \
    X(refused, "times its host said that nobody listens there")                                \
    X(lying, "packets of another session, with numbers it was not asked for, or damaged")      \
    X(left, "times it was left for a while because it was bad")                                \
    X(health, "what it did last: 0 untried, 1 answered, 2 late, 3 silent, 4 refused, 5 lying") \
    X(resting, "1 while it is left: asked only as a trial when its rest is over, or if all are left")

// How often the feed's answer to its losses came to each step: escalation.hpp.
// The first ones in the order of enum Step.
#define FH_ESCALATION_COUNTERS(X)                                                             \
    X(other_line, "times something was missing that another line may bring")                  \
    X(request, "times it had to be asked for")                                                \
    X(retry, "times it had to be asked for again")                                            \
    X(next_server, "times another server had to be asked")                                    \
    X(hopeless, "times asking was given up early: it could not catch up with the feed")       \
    X(snapshot, "snapshots begun")                                                            \
    X(stale, "times messages were lost for good, or never seen, and no snapshot was loading") \
    X(snapshot_failed, "snapshots that could not be had or used")

#define FH_FEED_COUNTERS(X)                                                                   \
    X(messages, "distinct numbers applied, in order")                                         \
    X(malformed_messages, "messages of a known type with a wrong length, skipped")            \
    X(unknown_messages, "messages of an unknown type, skipped by their framed length")        \
    X(unknown_orders,                                                                         \
      "messages whose order reference was unknown, live twice, or asked for too many shares") \
    X(refused_orders,                                                                         \
      "orders left out because a pool was full; their books are marked until the next clear") \
    X(orders, "orders live in the books")

#define FH_FIELD(name, description) std::uint64_t name = 0;
struct LineCounters {
    FH_LINE_COUNTERS(FH_FIELD)
};
struct ReceiveCounters {
    FH_RECEIVE_COUNTERS(FH_FIELD)
};
struct ClockCounters {
    FH_CLOCK_COUNTERS(FH_FIELD)
};
struct GapCounters {
    FH_GAP_COUNTERS(FH_FIELD)
};
struct RecoveryCounters {
    FH_RECOVERY_COUNTERS(FH_FIELD)
};
struct ServerCounters {
    FH_SERVER_COUNTERS(FH_FIELD)
};
struct EscalationCounters {
    FH_ESCALATION_COUNTERS(FH_FIELD)
};
struct FeedCounters {
    FH_FEED_COUNTERS(FH_FIELD)
};
#undef FH_FIELD

struct Counters {
    std::array<LineCounters, max_lines> lines{};
    ReceiveCounters receive{};
    ClockCounters clock{};
    GapCounters gaps{};
    RecoveryCounters recovery{};
    EscalationCounters escalation{};
    std::array<ServerCounters, max_servers> servers{};
    FeedCounters feed{};
    std::array<std::uint64_t, 8> records{};  // by dbn::Schema, published
};

struct CounterInfo {
    const char* name;
    const char* description;
};
#define FH_INFO(name, description) CounterInfo{#name, description},
inline constexpr CounterInfo line_counter_info[] = {FH_LINE_COUNTERS(FH_INFO)};
inline constexpr CounterInfo receive_counter_info[] = {FH_RECEIVE_COUNTERS(FH_INFO)};
inline constexpr CounterInfo clock_counter_info[] = {FH_CLOCK_COUNTERS(FH_INFO)};
inline constexpr CounterInfo gap_counter_info[] = {FH_GAP_COUNTERS(FH_INFO)};
inline constexpr CounterInfo recovery_counter_info[] = {FH_RECOVERY_COUNTERS(FH_INFO)};
inline constexpr CounterInfo server_counter_info[] = {FH_SERVER_COUNTERS(FH_INFO)};
inline constexpr CounterInfo escalation_counter_info[] = {FH_ESCALATION_COUNTERS(FH_INFO)};
inline constexpr CounterInfo feed_counter_info[] = {FH_FEED_COUNTERS(FH_INFO)};
#undef FH_INFO

// A counter without a description cannot be added: the tables and the structs come from one list.
static_assert(sizeof(LineCounters) == sizeof(line_counter_info) / sizeof(CounterInfo) * 8);
static_assert(sizeof(ReceiveCounters) == sizeof(receive_counter_info) / sizeof(CounterInfo) * 8);
static_assert(sizeof(ClockCounters) == sizeof(clock_counter_info) / sizeof(CounterInfo) * 8);
static_assert(sizeof(GapCounters) == sizeof(gap_counter_info) / sizeof(CounterInfo) * 8);
static_assert(sizeof(RecoveryCounters) == sizeof(recovery_counter_info) / sizeof(CounterInfo) * 8);
static_assert(sizeof(ServerCounters) == sizeof(server_counter_info) / sizeof(CounterInfo) * 8);
static_assert(sizeof(EscalationCounters) == sizeof(escalation_counter_info) / sizeof(CounterInfo) * 8);
static_assert(sizeof(FeedCounters) == sizeof(feed_counter_info) / sizeof(CounterInfo) * 8);

}  // namespace fh
