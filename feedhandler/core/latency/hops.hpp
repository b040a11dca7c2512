// The hops of a sampled packet through the receive thread, and where a channel keeps what they took. Part of
// the shared layout: includes are relative.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "histogram.hpp"

namespace fh::latency {

// Stamps: arrived (network card or kernel), dequeued (the source handed the packet over), begun (its turn
// came), sequenced (the arbiter delivers it), booked (the book is as after its last message), published (the
// records of that message are visible). X(name, what it is, budget in ns; 0 = none)
#define FH_HOPS(X)                                                                                  \
    X(receive, "stamp of the network card or kernel until the receive thread has the packet", 1000) \
    X(queue, "until its turn comes, behind packets that were taken with it", 0)                     \
    X(decode, "until it is decoded as a packet, checked and in order", 1000)                        \
    X(book, "until its messages are decoded and the books are as after the last of them", 1000)     \
    X(publish, "until the records of the last one are visible to consumers", 0)                     \
    X(total, "the whole way: receive, queue, decode, book and publish of the same packets", 3000)

enum class Hop : std::uint8_t {
#define FH_HOP(name, text, budget_ns) name,
    FH_HOPS(FH_HOP)
#undef FH_HOP
};
struct HopInfo {
    const char* name;
    const char* text;
    std::uint64_t budget_ns;
};
inline constexpr HopInfo hop_info[] = {
#define FH_HOP(name, text, budget_ns) {#name, text, budget_ns},
    FH_HOPS(FH_HOP)
#undef FH_HOP
};
inline constexpr std::size_t hop_count = sizeof(hop_info) / sizeof(HopInfo);

// A packet on its way to consumers, by the number of its last message. `index` is 0 while the writer is at
// it; `published_ticks` is 0 until it is published, for ever if it gave no record.
struct Sample {
    std::atomic<std::uint64_t> index;  // counts from 1; lies at index % sample_slots
    std::atomic<std::uint64_t> sequence;
    std::atomic<std::uint64_t> dequeued_ticks;
    std::atomic<std::uint64_t> receive_ns;
    std::atomic<std::uint64_t> published_ticks;
};
inline constexpr std::size_t sample_slots = 256;

struct Hops {
    std::array<Histogram, hop_count> hops{};
    std::uint64_t samples = 0;
    std::uint64_t backwards = 0;           // a stamp before the one it follows: the hop counts as 0
    std::array<std::uint64_t, 4> kinds{};  // by TimestampKind: what the receive hop of the samples starts at
};
static_assert(sizeof(Hops) % 8 == 0);

struct alignas(64) LatencyPage {
    std::atomic<std::uint32_t> sample_every;  // one packet in so many; 0 = none is measured
    std::atomic<std::uint32_t> clock;         // TickSource
    std::atomic<std::uint64_t> scale;         // ns per tick, times 2^32; follows the re-checks
    std::atomic<std::uint64_t> stamp_ns;      // what one stamp costs
    std::atomic<std::uint64_t> recalibrated;  // times that the ticks' rate had changed

    // Odd while `hops` is under the pen.
    alignas(64) std::atomic<std::uint64_t> version;
    Hops hops;

    // Index of the newest sample; stored before its records are published.
    alignas(64) std::atomic<std::uint64_t> announced;
    std::array<Sample, sample_slots> samples;
};

}  // namespace fh::latency
