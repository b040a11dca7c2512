// Order flow for scaling measurements: so many live orders, symbols and levels a side, activity everywhere.
// Four fifths of the deletions hit orders of the last few thousand, the rest any.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

namespace bench {

struct Flow {
    std::uint64_t orders = 100'000;
    std::uint64_t symbols = 1'000;
    std::uint64_t levels = 10;  // a side
};

class Generator {
  public:
    explicit Generator(const Flow& flow) : flow_(flow) { live_.reserve(flow.orders + 1); }

    // BinaryFILE bytes: adds until all orders are live (at most `count`), then adds and deletions in turn.
    std::size_t append(std::vector<std::uint8_t>& out, std::size_t count) {
        std::size_t made = 0;
        for (; made < count; ++made) {
            if (live_.size() < flow_.orders || (next() & 1) != 0) {
                add(out);
            } else {
                remove(out);
            }
        }
        return made;
    }
    bool filled() const { return live_.size() >= flow_.orders; }

  private:
    struct Live {
        std::uint64_t reference;
        std::uint16_t symbol;
    };

    std::uint64_t next() {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        state_ ^= state_ << 17;
        return state_ >> 11;
    }
    static void put(std::uint8_t* at, std::uint64_t value, unsigned bytes) {
        for (unsigned i = 0; i < bytes; ++i)
            at[i] = static_cast<std::uint8_t>(value >> (8 * (bytes - 1 - i)));
    }
    std::uint8_t* grow(std::vector<std::uint8_t>& out, std::uint16_t length, char type,
                       std::uint16_t symbol) {
        const std::size_t at = out.size();
        out.resize(at + 2 + length);
        put(&out[at], length, 2);
        out[at + 2] = static_cast<std::uint8_t>(type);
        put(&out[at + 3], symbol, 2);
        return &out[at + 2];
    }
    void add(std::vector<std::uint8_t>& out) {
        const auto symbol = static_cast<std::uint16_t>(1 + next() % flow_.symbols);
        std::uint8_t* p = grow(out, 36, 'A', symbol);
        reference_ += 2;
        put(p + 11, reference_, 8);
        const bool bid = (next() & 1) != 0;
        p[19] = bid ? 'B' : 'S';
        put(p + 20, 100, 4);
        std::memcpy(p + 24, "SYMBOL  ", 8);
        const std::uint64_t level = next() % flow_.levels;
        put(p + 32, bid ? 10'000'000 - level * 100 : 10'000'100 + level * 100, 4);
        live_.push_back({reference_, symbol});
    }
    void remove(std::vector<std::uint8_t>& out) {
        const std::uint64_t near = live_.size() < 4000 ? live_.size() : 4000;
        const std::size_t i = next() % 5 != 0 ? live_.size() - 1 - next() % near : next() % live_.size();
        std::uint8_t* p = grow(out, 19, 'D', live_[i].symbol);
        put(p + 11, live_[i].reference, 8);
        live_[i] = live_.back();
        live_.pop_back();
    }

    Flow flow_;
    std::vector<Live> live_;
    std::uint64_t reference_ = 0;
    std::uint64_t state_ = 88172645463325252ull;
};

}  // namespace bench
