// Messages about auctions: I (net order imbalance), N (retail interest), O (direct listing with capital
// raise).
#pragma once

#include "decode/fields.hpp"

namespace fh::decode {

struct Imbalance : AnyMessage {
    std::uint64_t paired_shares() const { return be64(p + 11); }
    std::uint64_t imbalance_shares() const { return be64(p + 19); }
    char direction() const { return static_cast<char>(p[27]); }  // B, S, N none, O insufficient, P paused
    std::uint64_t stock() const { return alpha8(p + 28); }
    std::uint32_t far_price() const { return be32(p + 36); }
    std::uint32_t near_price() const { return be32(p + 40); }
    std::uint32_t reference_price() const { return be32(p + 44); }
    char cross_type() const { return static_cast<char>(p[48]); }
    char price_variation() const { return static_cast<char>(p[49]); }
};

struct RetailInterest : AnyMessage {
    std::uint64_t stock() const { return alpha8(p + 11); }
    char interest() const { return static_cast<char>(p[19]); }
};

struct DirectListing : AnyMessage {
    std::uint64_t stock() const { return alpha8(p + 11); }
    char open_eligibility() const { return static_cast<char>(p[19]); }
    std::uint32_t minimum_price() const { return be32(p + 20); }
    std::uint32_t maximum_price() const { return be32(p + 24); }
    std::uint32_t near_price() const { return be32(p + 28); }
    std::uint64_t near_time() const { return be64(p + 32); }
    std::uint32_t lower_collar() const { return be32(p + 40); }
    std::uint32_t upper_collar() const { return be32(p + 44); }
};

}  // namespace fh::decode
