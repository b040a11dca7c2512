// The simulated time of day: messages come in bursts, and a phase of the day ends on time whatever number of
// messages it holds.
#pragma once

#include <algorithm>
#include <cstdint>

#include "random.hpp"

namespace fh::simulate {

inline constexpr std::uint64_t second_ns = 1'000'000'000;
constexpr std::uint64_t time_of_day(std::uint64_t hours, std::uint64_t minutes, std::uint64_t seconds = 0) {
    return ((hours * 60 + minutes) * 60 + seconds) * second_ns;
}

class DayClock {
  public:
    explicit DayClock(std::uint64_t seed) : random_(seed, 104) {}

    std::uint64_t now_ns() const { return now_ns_; }
    void jump(std::uint64_t ns) { now_ns_ = std::max(now_ns_, ns); }

    // The next event of a phase that ends at `end_ns` and has about `messages_left` to come. Within a burst
    // events are 60 to 860 ns apart (over two million a second); the pauses between bursts fill the time.
    void advance(std::uint64_t end_ns, std::uint64_t messages_left, std::uint64_t mean_burst) {
        if (now_ns_ >= end_ns) {
            now_ns_ += 1;
            return;
        }
        const std::uint64_t left = end_ns - now_ns_;
        const std::uint64_t mean_gap = left / std::max<std::uint64_t>(messages_left, 1);
        if (burst_left_ == 0) {
            burst_left_ = 1 + random_.exponential(mean_burst);
            now_ns_ += std::min(random_.exponential(mean_gap * burst_left_), left / 2);
        } else {
            --burst_left_;
            now_ns_ += std::min<std::uint64_t>(60 + random_.below(800), 2 * mean_gap + 1);
        }
    }

  private:
    Random random_;
    std::uint64_t now_ns_ = 0;
    std::uint64_t burst_left_ = 0;
};

}  // namespace fh::simulate
