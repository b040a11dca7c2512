// One displayed order, and the pool all orders live in.
#pragma once

#include <cstdint>

#include "memory.hpp"

namespace fh::book {

enum class Side : std::uint8_t { bid = 0, ask = 1 };

// A price as the books compare it: a smaller key is a better price on either side.
inline std::uint32_t price_key(Side side, std::uint32_t price) {
    return price ^ (static_cast<std::uint32_t>(side) - 1);  // bid: ~price, ask: price
}
inline std::uint32_t key_price(Side side, std::uint32_t key) { return price_key(side, key); }

// Half a cache line. Links are pool handles, so that neighbours need no look-up; handle 0 is a dummy, so that
// they need no branch.
struct alignas(32) Order {
    std::uint32_t previous;  // ahead in the queue of its level
    std::uint32_t next;      // behind
    std::uint32_t key;       // price_key
    std::uint32_t shares;
    std::uint64_t reference;
    std::uint16_t instrument;
    Side side;
    std::uint8_t reserved[5];

    std::uint32_t price() const { return key_price(side, key); }
};
static_assert(sizeof(Order) == 32);

class OrderPool {
  public:
    explicit OrderPool(std::uint32_t capacity)
        : orders_(std::size_t{capacity} + 1, Pages::huge), end_(capacity) {}

    Order& operator[](std::uint32_t handle) const { return orders_[handle]; }
    std::uint32_t live() const { return live_; }
    bool full() const { return live_ == end_; }

    // Handle of an order to fill in. Only when not full.
    std::uint32_t take() {
        ++live_;
        const std::uint32_t handle = next_handle();
        const std::uint32_t recycled =
            free_ != 0;  // used without a branch: the two kinds alternate at random
        free_ = orders_[handle].next & (0u - recycled);
        used_ += 1 - recycled;
        return handle;
    }

    void give_back(std::uint32_t handle) {
        orders_[handle].next = free_;
        free_ = handle;
        --live_;
    }

    std::size_t prefault(std::uint32_t orders) { return orders_.prefault(std::size_t{orders} + 1); }

    void clear() { free_ = used_ = live_ = 0; }
    std::uint32_t next_handle() const { return free_ != 0 ? free_ : used_ + 1; }

  private:
    Reserved<Order> orders_;
    std::uint32_t end_;
    std::uint32_t free_ = 0;  // newest first: still in the cache
    std::uint32_t used_ = 0;
    std::uint32_t live_ = 0;
};

}  // namespace fh::book
