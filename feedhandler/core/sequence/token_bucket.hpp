// A rate limit that lets a short burst through.
#pragma once

#include <algorithm>
#include <cstdint>

namespace fh::sequence {

// As a virtual clock ("generic cell rate"): one number of state, exact in integers.
class TokenBucket {
  public:
    TokenBucket(std::uint64_t per_second, std::uint64_t burst)
        : interval_ns_(per_second == 0 ? 0 : static_cast<std::int64_t>(1'000'000'000 / per_second)),
          tolerance_ns_(interval_ns_ * static_cast<std::int64_t>(burst > 0 ? burst - 1 : 0)) {}

    // When the next one may be taken; not after now = at once.
    std::int64_t ready_ns() const { return due_ns_ - tolerance_ns_; }
    bool take(std::int64_t now_ns) {
        if (ready_ns() > now_ns) return false;
        due_ns_ = std::max(due_ns_, now_ns) + interval_ns_;
        return true;
    }

  private:
    std::int64_t interval_ns_;
    std::int64_t tolerance_ns_;
    std::int64_t due_ns_ = 0;
};

}  // namespace fh::sequence
