// How long something took, many times over: counts by nanoseconds in buckets of at most 1/32 of their value.
// A plain row of words, so that it can lie in shared memory: one thread adds, any number read.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace fh::latency {

struct Histogram {
    static constexpr unsigned sub_bits = 5;     // 32 buckets for each power of two
    static constexpr unsigned range_bits = 30;  // up to 1.07 s; the last bucket takes what took longer
    static constexpr std::size_t sub_count = std::size_t{1} << sub_bits;
    static constexpr std::size_t bucket_count = (range_bits - sub_bits + 1) * sub_count + 1;

    std::array<std::uint64_t, bucket_count> counts{};
    std::uint64_t sum_ns = 0;
    std::uint64_t worst_ns = 0;

    static constexpr std::size_t bucket(std::uint64_t ns) {
        if (ns < sub_count) return ns;
        if (ns >> range_bits != 0) return bucket_count - 1;
        const auto shift = static_cast<unsigned>(std::bit_width(ns)) - 1 - sub_bits;
        return shift * sub_count + (ns >> shift);
    }
    // The values of a bucket: [lowest(b), lowest(b + 1)).
    static constexpr std::uint64_t lowest(std::size_t bucket) {
        if (bucket < sub_count) return bucket;
        if (bucket > bucket_count - 1) return ~std::uint64_t{0};
        const std::size_t shift = bucket / sub_count - 1;
        return (bucket % sub_count + sub_count) << shift;
    }

    void add(std::uint64_t ns) {
        ++counts[bucket(ns)];
        sum_ns += ns;
        worst_ns = std::max(worst_ns, ns);
    }
    // The same while others read.
    void add_shared(std::uint64_t ns) {
        add_word(counts[bucket(ns)], 1);
        add_word(sum_ns, ns);
        if (ns > worst_ns) __atomic_store_n(&worst_ns, ns, __ATOMIC_RELAXED);
    }

    std::uint64_t count() const {
        std::uint64_t sum = 0;
        for (const std::uint64_t n : counts) sum += n;
        return sum;
    }

    // The least value that `share` (0 to 1) of all do not exceed: up to 1/32 too high, never above the worst;
    // 0 when there are none.
    std::uint64_t quantile(double share) const {
        const std::uint64_t all = count();
        if (all == 0) return 0;
        const auto asked = static_cast<std::uint64_t>(std::ceil(share * static_cast<double>(all)));
        const std::uint64_t rank = std::clamp<std::uint64_t>(asked, 1, all);
        std::uint64_t below = 0;
        std::size_t i = 0;
        while ((below += counts[i]) < rank) ++i;
        return std::min(lowest(i + 1) - 1, worst_ns);
    }

    // Those that certainly took no longer.
    std::uint64_t at_most(std::uint64_t ns) const {
        std::uint64_t sum = 0;
        for (std::size_t i = 0; i < bucket_count && lowest(i + 1) - 1 <= ns; ++i) sum += counts[i];
        return sum;
    }

    void merge(const Histogram& other) {
        for (std::size_t i = 0; i < bucket_count; ++i) counts[i] += other.counts[i];
        sum_ns += other.sum_ns;
        worst_ns = std::max(worst_ns, other.worst_ns);
    }

    // What was added since `before` was this histogram. The worst of it is known by its bucket only.
    Histogram since(const Histogram& before) const {
        Histogram out;
        for (std::size_t i = 0; i < bucket_count; ++i) {
            out.counts[i] = counts[i] - before.counts[i];
            if (out.counts[i] != 0) out.worst_ns = std::min(lowest(i + 1) - 1, worst_ns);
        }
        out.sum_ns = sum_ns - before.sum_ns;
        return out;
    }

  private:
    static void add_word(std::uint64_t& word, std::uint64_t more) {
        __atomic_store_n(&word, word + more, __ATOMIC_RELAXED);  // one writer: its own value is no secret
    }
};
static_assert(sizeof(Histogram) == (Histogram::bucket_count + 2) * 8);
static_assert(Histogram::bucket((1u << 30) - 1) == Histogram::bucket_count - 2);

}  // namespace fh::latency
