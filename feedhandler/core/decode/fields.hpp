// Big-endian, unaligned fields of a message, read where they lie.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

namespace fh::decode {

inline std::uint16_t be16(const std::uint8_t* p) {
    std::uint16_t v;
    std::memcpy(&v, p, 2);
    return __builtin_bswap16(v);
}

inline std::uint32_t be32(const std::uint8_t* p) {
    std::uint32_t v;
    std::memcpy(&v, p, 4);
    return __builtin_bswap32(v);
}

inline std::uint64_t be64(const std::uint8_t* p) {
    std::uint64_t v;
    std::memcpy(&v, p, 8);
    return __builtin_bswap64(v);
}

// The stock field as it lies: eight bytes, space padded. Kept raw, compared as one word.
inline std::uint64_t alpha8(const std::uint8_t* p) {
    std::uint64_t v;
    std::memcpy(&v, p, 8);
    return v;
}

// What every message starts with: type(1) | instrument(2) | tracking(2) | timestamp(6).
struct AnyMessage {
    const std::uint8_t* p;

    std::uint8_t type() const { return p[0]; }
    std::uint16_t instrument() const { return be16(p + 1); }
    std::uint16_t tracking() const { return be16(p + 3); }
    // Nanoseconds since midnight of the exchange. Eight bytes are read from one before the field: it starts
    // at 5.
    std::uint64_t timestamp_ns() const { return be64(p + 3) & 0xFFFF'FFFF'FFFFull; }
};

}  // namespace fh::decode
