// The dialect `modify` of mbo records: an order that lives on is modified to its remaining size (M), not
// cancelled in part. For readers that take every C for the order's end (nautilus_trader, hftbacktest).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <unordered_map>

#include "record/dbn.hpp"

namespace fh::record {

// Records of one day in the order of the feed; orders are followed by their adds.
class ModifyDialect {
  public:
    // `record`: one mbo record, changed in place. A full cancel stays C, as does one of an order never added.
    void apply(std::byte* record) {
        dbn::Mbo mbo;
        std::memcpy(&mbo, record, sizeof mbo);
        if (mbo.action == 'R') {
            ++clears_[mbo.hd.instrument_id];
        } else if (mbo.action == 'A') {
            orders_[mbo.order_id] = {mbo.size, mbo.hd.instrument_id, clears_of(mbo.hd.instrument_id)};
        } else if (mbo.action == 'C') {
            const auto order = orders_.find(mbo.order_id);
            if (order == orders_.end() || !is_of(order->second, mbo.hd.instrument_id)) return;
            if (mbo.size >= order->second.size) {
                orders_.erase(order);
                return;
            }
            order->second.size -= mbo.size;
            mbo.size = order->second.size;
            mbo.action = 'M';
            std::memcpy(record, &mbo, sizeof mbo);
        }
    }

  private:
    struct Order {
        std::uint32_t size;
        std::uint32_t instrument_id;
        std::uint32_t clears;  // of the instrument when it was added: a clear ends all orders at no cost
    };

    std::uint32_t clears_of(std::uint32_t instrument_id) const {
        const auto found = clears_.find(instrument_id);
        return found == clears_.end() ? 0 : found->second;
    }
    bool is_of(const Order& order, std::uint32_t instrument_id) const {
        return order.instrument_id == instrument_id && order.clears == clears_of(instrument_id);
    }

    std::unordered_map<std::uint64_t, Order> orders_;
    std::unordered_map<std::uint32_t, std::uint32_t> clears_;
};

}  // namespace fh::record
