// Resting orders of all symbols in one pool, and the wheel that says when each is cancelled, replaced or
// reduced.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace fh::simulate {

enum class Side : std::uint8_t { buy = 0, sell = 1 };
inline Side opposite(Side side) { return side == Side::buy ? Side::sell : Side::buy; }
inline char side_code(Side side) { return side == Side::buy ? 'B' : 'S'; }

// Half a cache line. Handle 0 is nobody.
struct Order {
    std::uint64_t reference;
    std::uint32_t previous, next;  // in the queue of its price level
    std::uint32_t wheel_next;      // in its slot of the wheel; in the free list
    std::uint32_t shares;          // 0: gone, but still in the wheel
    std::uint32_t price;           // 1e-4 dollars
    std::uint16_t symbol;          // index
    Side side;
    std::uint8_t rounds : 7;  // turns of the wheel still to go
    std::uint8_t scheduled : 1;
};
static_assert(sizeof(Order) == 32);

class OrderPool {
  public:
    explicit OrderPool(std::uint32_t capacity)
        : capacity_(capacity), orders_(std::make_unique_for_overwrite<Order[]>(capacity + 1u)) {}

    bool full() const { return free_ == 0 && top_ == capacity_; }
    std::uint32_t live() const { return live_; }
    std::uint32_t top() const { return top_; }  // handles up to this one have been used
    Order& operator[](std::uint32_t handle) { return orders_[handle]; }

    std::uint32_t allocate() {
        ++live_;
        if (free_ == 0) return ++top_;
        const std::uint32_t handle = free_;
        free_ = orders_[handle].wheel_next;
        return handle;
    }

    // The order is out of its book; its place is reused once the wheel has let go of it.
    void retire(std::uint32_t handle) {
        --live_;
        orders_[handle].shares = 0;
        if (!orders_[handle].scheduled) release(handle);
    }

    void release(std::uint32_t handle) {
        orders_[handle].wheel_next = free_;
        free_ = handle;
    }

  private:
    std::uint32_t capacity_, free_ = 0, top_ = 0, live_ = 0;
    std::unique_ptr<Order[]> orders_;
};

// Timing wheel over steps of the exchange. Orders come out a few steps late at most, prefetched.
class Wheel {
  public:
    static constexpr std::uint32_t slot_steps = 64, slot_count = 1u << 15;
    static constexpr std::uint64_t max_lifetime = std::uint64_t{slot_steps} * slot_count * 100;  // steps

    explicit Wheel(OrderPool& orders) : orders_(orders), slots_(slot_count, 0) {}

    void schedule(std::uint32_t handle, std::uint64_t lifetime) {
        Order& order = orders_[handle];
        const std::uint64_t slots = (lifetime < max_lifetime ? lifetime : max_lifetime) / slot_steps + 1;
        order.rounds = static_cast<std::uint8_t>((slots - 1) / slot_count) & 0x7F;
        order.scheduled = 1;
        std::uint32_t& head = slots_[(now_ + slots) % slot_count];
        order.wheel_next = head;
        head = handle;
    }

    // The next order whose time has come, no longer scheduled; 0 = none. `step` never falls.
    std::uint32_t poll(std::uint64_t step) {
        for (unsigned tries = 0; tries < 4 && ready_end_ - ready_begin_ < ready_size; ++tries) {
            if (cursor_ == 0 && !next_slot(step)) break;
            if (cursor_ != 0) collect();
        }
        return ready_end_ - ready_begin_ == ready_size ? take() : 0;
    }

    // A handle that `poll` will return `ahead` takes later, for prefetching; may be 0 or stale.
    std::uint32_t peek(std::uint32_t ahead) const { return ready_[(ready_begin_ + ahead) % ready_size]; }

  private:
    static constexpr std::uint32_t ready_size = 8;

    bool next_slot(std::uint64_t step) {
        if (now_ >= step / slot_steps) return false;
        std::uint32_t& head = slots_[++now_ % slot_count];
        cursor_ = head;
        head = 0;
        if (cursor_ != 0) __builtin_prefetch(&orders_[cursor_]);
        return true;
    }

    void collect() {
        const std::uint32_t handle = cursor_;
        Order& order = orders_[handle];
        cursor_ = order.wheel_next;
        if (cursor_ != 0) __builtin_prefetch(&orders_[cursor_]);
        if (order.shares == 0) {
            orders_.release(handle);
        } else if (order.rounds > 0) {
            --order.rounds;
            order.wheel_next = slots_[now_ % slot_count];
            slots_[now_ % slot_count] = handle;
        } else {
            ready_[ready_end_++ % ready_size] = handle;
        }
    }

    std::uint32_t take() {
        const std::uint32_t handle = ready_[ready_begin_++ % ready_size];
        orders_[handle].scheduled = 0;
        if (orders_[handle].shares > 0) return handle;
        orders_.release(handle);
        return 0;
    }

    OrderPool& orders_;
    std::vector<std::uint32_t> slots_;
    std::uint64_t now_ = 0;  // slot being emptied
    std::uint32_t cursor_ = 0;
    std::uint32_t ready_[ready_size] = {};
    std::uint32_t ready_begin_ = 0, ready_end_ = 0;
};

}  // namespace fh::simulate
