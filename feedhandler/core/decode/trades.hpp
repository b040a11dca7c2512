// Prints that touch no displayed order: P, Q, B.
#pragma once

#include "decode/fields.hpp"

namespace fh::decode {

struct Trade : AnyMessage {
    std::uint32_t shares() const { return be32(p + 20); }
    std::uint64_t stock() const { return alpha8(p + 24); }
    std::uint32_t price() const { return be32(p + 32); }
    std::uint64_t match_number() const { return be64(p + 36); }
};

struct CrossTrade : AnyMessage {
    std::uint64_t shares() const {
        return be64(p + 11);
    }  // 64 bits, unlike every other share count of a trade
    std::uint64_t stock() const { return alpha8(p + 19); }
    std::uint32_t price() const { return be32(p + 27); }
    std::uint64_t match_number() const { return be64(p + 31); }
    char cross_type() const { return static_cast<char>(p[39]); }
};

struct BrokenTrade : AnyMessage {
    std::uint64_t match_number() const { return be64(p + 11); }
};

}  // namespace fh::decode
