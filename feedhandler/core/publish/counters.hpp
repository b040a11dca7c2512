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
    X(down, "1 while the line is silent for longer than receive.line_down_s")

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
struct GapCounters {
    FH_GAP_COUNTERS(FH_FIELD)
};
struct RecoveryCounters {
    FH_RECOVERY_COUNTERS(FH_FIELD)
};
struct FeedCounters {
    FH_FEED_COUNTERS(FH_FIELD)
};
#undef FH_FIELD

struct Counters {
    std::array<LineCounters, max_lines> lines{};
    GapCounters gaps{};
    RecoveryCounters recovery{};
    FeedCounters feed{};
    std::array<std::uint64_t, 8> records{};  // by dbn::Schema, published
};

struct CounterInfo {
    const char* name;
    const char* description;
};
#define FH_INFO(name, description) CounterInfo{#name, description},
inline constexpr CounterInfo line_counter_info[] = {FH_LINE_COUNTERS(FH_INFO)};
inline constexpr CounterInfo gap_counter_info[] = {FH_GAP_COUNTERS(FH_INFO)};
inline constexpr CounterInfo recovery_counter_info[] = {FH_RECOVERY_COUNTERS(FH_INFO)};
inline constexpr CounterInfo feed_counter_info[] = {FH_FEED_COUNTERS(FH_INFO)};
#undef FH_INFO

// A counter without a description cannot be added: the tables and the structs come from one list.
static_assert(sizeof(LineCounters) == sizeof(line_counter_info) / sizeof(CounterInfo) * 8);
static_assert(sizeof(GapCounters) == sizeof(gap_counter_info) / sizeof(CounterInfo) * 8);
static_assert(sizeof(RecoveryCounters) == sizeof(recovery_counter_info) / sizeof(CounterInfo) * 8);
static_assert(sizeof(FeedCounters) == sizeof(feed_counter_info) / sizeof(CounterInfo) * 8);

}  // namespace fh
