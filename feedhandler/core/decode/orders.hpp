// Messages about displayed orders: A, F, E, C, X, D, U. Prices have 4 implied decimals.
#pragma once

#include "decode/fields.hpp"

namespace fh::decode {

// A and F; F carries an attribution (MPID) behind the price.
struct AddOrder : AnyMessage {
    std::uint64_t reference() const { return be64(p + 11); }
    char side() const { return static_cast<char>(p[19]); }  // 'B' or 'S'
    std::uint32_t shares() const { return be32(p + 20); }
    std::uint64_t stock() const { return alpha8(p + 24); }
    std::uint32_t price() const { return be32(p + 32); }
    const std::uint8_t* participant() const { return p + 36; }  // four letters; F only
};

struct OrderExecuted : AnyMessage {
    std::uint64_t reference() const { return be64(p + 11); }
    std::uint32_t shares() const { return be32(p + 19); }
    std::uint64_t match_number() const { return be64(p + 23); }
};

struct OrderExecutedWithPrice : OrderExecuted {
    bool printable() const { return p[31] != 'N'; }
    std::uint32_t price() const { return be32(p + 32); }
};

struct OrderCancel : AnyMessage {
    std::uint64_t reference() const { return be64(p + 11); }
    std::uint32_t shares() const { return be32(p + 19); }  // taken off, not what is left
};

struct OrderDelete : AnyMessage {
    std::uint64_t reference() const { return be64(p + 11); }
};

struct OrderReplace : AnyMessage {
    std::uint64_t old_reference() const { return be64(p + 11); }
    std::uint64_t new_reference() const { return be64(p + 19); }
    std::uint32_t shares() const { return be32(p + 27); }
    std::uint32_t price() const { return be32(p + 31); }
};

}  // namespace fh::decode
