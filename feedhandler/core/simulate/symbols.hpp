// Names, popularity and prices of the simulated stocks.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "random.hpp"

namespace fh::simulate {

struct Listing {
    std::array<char, 8> name;  // padded with spaces, as on the wire
    std::uint32_t price;       // reference price of the day, 1e-4 dollars
    std::uint16_t rank;        // popularity, 0 = busiest
};

inline std::array<char, 8> padded(std::string_view text) {
    std::array<char, 8> name;
    name.fill(' ');
    std::copy_n(text.begin(), std::min<std::size_t>(text.size(), 8), name.begin());
    return name;
}

// The first names are real tickers, so that examples read well; the rest are made up. Prices and trading are
// not theirs.
inline std::vector<Listing> make_listings(std::uint32_t count, std::uint64_t seed) {
    static constexpr std::string_view known[] = {
        "AAPL", "SPY", "MSFT", "QQQ",  "NVDA", "TSLA", "AMZN", "META", "GOOGL", "AMD",
        "INTC", "IWM", "BAC",  "NFLX", "AVGO", "CSCO", "XLF",  "MU",   "GE",    "F",
        "PFE",  "T",   "COST", "PEP",  "ADBE", "QCOM", "TXN",  "AMGN", "SBUX",  "GILD"};
    Random names(0x5EED'5EED, 1);  // the same names for every seed
    Random random(seed, 101);
    std::vector<Listing> listings;
    std::unordered_set<std::uint64_t> taken;
    while (listings.size() < count) {
        std::array<char, 8> name = padded("");
        if (listings.size() < std::size(known)) {
            name = padded(known[listings.size()]);
        } else {
            const std::uint32_t letters = 3 + (names.below(3) > 0);
            for (std::uint32_t i = 0; i < letters; ++i) name[i] = static_cast<char>('A' + names.below(26));
        }
        if (!taken.insert(std::bit_cast<std::uint64_t>(name)).second) continue;
        // Log-uniform between $4 and $1024 in steps of a cent; one in sixty trades below a dollar in steps of
        // $0.0001.
        auto price = static_cast<std::uint32_t>(random.log_uniform(2, 10)) * 10000;
        price += random.below(100) * 100;
        if (random.below(60) == 0) price = 1000 + random.below(8000);
        listings.push_back({name, price, static_cast<std::uint16_t>(listings.size())});
    }
    // Stock locates follow the alphabet, as on a real day, so that a locate says nothing of popularity.
    std::sort(listings.begin(), listings.end(),
              [](const Listing& a, const Listing& b) { return a.name < b.name; });
    return listings;
}

// Draws a symbol with probability proportional to 1 / (rank + 20), in constant time (alias method, integers
// only).
class Popularity {
  public:
    explicit Popularity(const std::vector<Listing>& listings) : entries_(listings.size()) {
        const auto count = static_cast<std::uint64_t>(listings.size());
        std::vector<std::uint64_t> weights;
        std::uint64_t sum = 0;
        for (const Listing& listing : listings) {
            weights.push_back((1ull << 36) / (listing.rank + 20u));
            sum += weights.back();
        }
        std::vector<std::uint32_t> small, large;
        for (std::uint32_t i = 0; i < count; ++i) {
            weights[i] *= count;  // now the mean is `sum`
            (weights[i] < sum ? small : large).push_back(i);
        }
        for (std::uint32_t i = 0; i < count; ++i) entries_[i] = {0xFFFFFFFFu, i};
        while (!small.empty() && !large.empty()) {
            const std::uint32_t s = small.back(), l = large.back();
            small.pop_back();
            entries_[s] = {
                static_cast<std::uint32_t>((static_cast<unsigned __int128>(weights[s]) << 32) / sum), l};
            weights[l] -= sum - weights[s];
            if (weights[l] < sum) {
                large.pop_back();
                small.push_back(l);
            }
        }
    }

    std::uint32_t draw(Random& random) const {
        const std::uint32_t i = random.below(static_cast<std::uint32_t>(entries_.size()));
        return static_cast<std::uint32_t>(random.next() >> 32) <= entries_[i].keep ? i : entries_[i].other;
    }

  private:
    struct Entry {
        std::uint32_t keep, other;
    };
    std::vector<Entry> entries_;
};

}  // namespace fh::simulate
