// Which numbers a line has brought: exact over a window, so that a duplicate is not counted twice and a late
// copy is taken back.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace fh::sequence {

// One bit a number, for the newest `window` numbers up to the highest one the line brought. A copy older than
// that counts as a duplicate: its number stays missing. The window is at least four times what can be held,
// so all numbers not yet delivered lie within it.
class LineWindow {
  public:
    explicit LineWindow(std::size_t numbers)
        : window_(std::max<std::size_t>(std::bit_ceil(numbers), 65536)),
          words_(std::make_unique<std::uint64_t[]>(window_ / 64)) {}

    // A session starts at number `base`: those before it are none of the line's business.
    void restart(std::uint64_t base) {
        base_ = end_ = base;
        distinct_ = 0;
    }

    void mark(std::uint64_t first, std::uint64_t end) {
        if (first == end_) [[likely]] {  // in order: the bits of this lap's numbers are simply written
            const std::uint64_t bit = first % 64, bits = end - first;
            if (bit + bits < 64) [[likely]]
                words_[first % window_ / 64] |= ((std::uint64_t{1} << bits) - 1) << bit;
            else
                set(first, end);
            distinct_ += bits;
            end_ = end;
            return;
        }
        mark_out_of_order(first, end);
    }

    // Numbers in [base, next) that were not brought.
    std::uint64_t missing(std::uint64_t next) const {
        if (next <= base_) return 0;  // a restart: what it fetches was never this line's business
        const std::uint64_t ahead = end_ > next ? count(std::max(next, floor()), end_) : 0;
        return next - base_ - (distinct_ - ahead);
    }

  private:
    std::uint64_t floor() const { return end_ - base_ > window_ ? end_ - window_ : base_; }

    void mark_out_of_order(std::uint64_t first, std::uint64_t end) {
        first = std::max(first, floor());
        if (first >= end) return;
        if (first > end_) {
            clear(first - end_ >= window_ ? first - window_ : end_, first);
            end_ = first;
        }
        const std::uint64_t seen_end = std::min(end, end_);
        if (first < seen_end) distinct_ += seen_end - first - count(first, seen_end);
        if (end > end_) distinct_ += end - end_;
        set(first, end);
        end_ = std::max(end, end_);
    }

    // Calls f(word, mask) for the words that [first, end) touches.
    template <class F>
    void each_word(std::uint64_t first, std::uint64_t end, F f) const {
        while (first < end) {
            const std::uint64_t bit = first % 64;
            const std::uint64_t bits = std::min<std::uint64_t>(64 - bit, end - first);
            f(words_[first % window_ / 64], (~std::uint64_t{0} >> (64 - bits)) << bit);
            first += bits;
        }
    }
    void set(std::uint64_t first, std::uint64_t end) {
        each_word(first, end, [](std::uint64_t& word, std::uint64_t mask) { word |= mask; });
    }
    void clear(std::uint64_t first, std::uint64_t end) {
        each_word(first, end, [](std::uint64_t& word, std::uint64_t mask) { word &= ~mask; });
    }
    std::uint64_t count(std::uint64_t first, std::uint64_t end) const {
        std::uint64_t sum = 0;
        each_word(first, end, [&sum](std::uint64_t& word, std::uint64_t mask) {
            sum += static_cast<std::uint64_t>(std::popcount(word & mask));
        });
        return sum;
    }

    std::uint64_t window_;  // a power of two
    std::uint64_t base_ = 0;
    std::uint64_t end_ = 0;  // one past the highest number brought
    std::uint64_t distinct_ = 0;
    std::unique_ptr<std::uint64_t[]> words_;
};

}  // namespace fh::sequence
