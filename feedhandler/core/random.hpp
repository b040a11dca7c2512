// Seeded random numbers that are the same on every machine: integers only, no <random> (its distributions
// differ by library).
#pragma once

#include <array>
#include <bit>
#include <cstdint>

namespace fh {

// SplitMix64 (public domain algorithm by S. Vigna): spreads a seed, and tells streams of one seed apart.
constexpr std::uint64_t mix64(std::uint64_t x) {
    x += 0x9E3779B97F4A7C15ull;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
    return x ^ (x >> 31);
}

// A probability as a threshold: an event of probability p happens when a 63-bit draw is below it. p = 1
// always, p = 0 never.
constexpr std::uint64_t threshold(double probability) {
    if (!(probability > 0.0)) return 0;
    if (probability >= 1.0) return 1ull << 63;
    return static_cast<std::uint64_t>(probability * 9223372036854775808.0);
}

// xoshiro256++ (public domain algorithm by D. Blackman and S. Vigna).
class Random {
  public:
    explicit constexpr Random(std::uint64_t seed, std::uint64_t stream = 0) {
        std::uint64_t x = mix64(seed) ^ mix64(~stream);
        for (std::uint64_t& word : state_) word = x = mix64(x);
    }

    constexpr std::uint64_t next() {
        const std::uint64_t result = std::rotl(state_[0] + state_[3], 23) + state_[0];
        const std::uint64_t t = state_[1] << 17;
        state_[2] ^= state_[0];
        state_[3] ^= state_[1];
        state_[1] ^= state_[2];
        state_[0] ^= state_[3];
        state_[2] ^= t;
        state_[3] = std::rotl(state_[3], 45);
        return result;
    }

    // Uniform in [0, bound); the bias of at most bound / 2^32 is accepted.
    constexpr std::uint32_t below(std::uint32_t bound) {
        return static_cast<std::uint32_t>(((next() >> 32) * bound) >> 32);
    }

    constexpr bool chance(std::uint64_t threshold_63) { return (next() >> 1) < threshold_63; }

    // Exponential with the given mean, from -log2 of a uniform number, its fraction interpolated linearly (4
    // % off at most).
    constexpr std::uint64_t exponential(std::uint64_t mean) {
        const std::uint64_t u = next() | 1;
        const int zeros = std::countl_zero(u);
        const std::uint64_t fraction =
            zeros == 63 ? 0 : (u << (zeros + 1)) >> 48;  // 16 bits below the leading one
        const std::uint64_t minus_log2 = (static_cast<std::uint64_t>(zeros + 1) << 16) - fraction;
        return static_cast<std::uint64_t>((static_cast<unsigned __int128>(minus_log2) * mean * 45426) >>
                                          32);  // ln 2
    }

    // Every octave of [2^low, 2^high) is equally likely, uniform within it.
    constexpr std::uint64_t log_uniform(unsigned low, unsigned high) {
        const unsigned octave = low + below(high - low);
        return (1ull << octave) + (next() >> (64 - octave));
    }

  private:
    std::array<std::uint64_t, 4> state_{};
};

}  // namespace fh
