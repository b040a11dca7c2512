// Messages about the whole market: S, V, W. Instrument 0.
#pragma once

#include "decode/fields.hpp"

namespace fh::decode {

struct SystemEvent : AnyMessage {
    char event() const { return static_cast<char>(p[11]); }  // O, S, Q, M, E, C
};

struct DeclineLevels : AnyMessage {
    std::uint64_t level(unsigned number) const {
        return be64(p + 11 + 8 * (number - 1));
    }  // 1..3, 8 implied decimals
};

struct DeclineStatus : AnyMessage {
    char breached() const { return static_cast<char>(p[11]); }  // 1, 2, 3
};

}  // namespace fh::decode
