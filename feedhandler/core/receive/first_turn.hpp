// The first turn with packets, of a source that reads one receiver after the other.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "message.hpp"

namespace fh::receive {

// The feed starts with the packet that is handled first. While later receivers are read, an earlier packet
// may arrive at one that was empty a moment ago: look there again, and let the time of arrival decide.
class FirstTurn {
  public:
    explicit FirstTurn(std::size_t receivers) : had_(receivers) {}

    bool over() const { return over_; }

    // `receive(i, out)` reads receiver i.
    template <class Receive>
    std::size_t poll(std::span<Datagram> out, Receive receive) {
        std::size_t count = 0;
        for (std::size_t i = 0; i < had_.size(); ++i) {
            const std::size_t got = receive(i, out.subspan(count));
            had_[i] = got != 0;
            count += got;
        }
        if (count == 0) return 0;
        over_ = true;
        for (std::size_t i = 0; i < had_.size(); ++i)
            if (!had_[i]) count += receive(i, out.subspan(count));
        sort_by_time(out.first(count));
        return count;
    }

  private:
    // By insertion: they are few and nearly sorted, and std::stable_sort would allocate.
    static void sort_by_time(std::span<Datagram> all) {
        for (auto next = all.begin(); next != all.end(); ++next) {
            const auto place =
                std::ranges::upper_bound(all.begin(), next, next->ts_recv_ns, {}, &Datagram::ts_recv_ns);
            std::rotate(place, next, next + 1);
        }
    }

    bool over_ = false;
    std::vector<bool> had_;
};

}  // namespace fh::receive
