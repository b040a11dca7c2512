// Bounds-checked reading of integers from a file that lies in memory, in the byte order the file states.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

namespace fh::receive {

using FileBytes = std::span<const std::uint8_t>;

// The caller has checked that `at` + sizeof(T) lies inside `file`.
template <class T>
T load(FileBytes file, std::size_t at, bool big_endian) {
    static_assert(std::is_unsigned_v<T>);
    T value;
    std::memcpy(&value, file.data() + at, sizeof value);
    if (big_endian == (std::endian::native == std::endian::big)) return value;
    if constexpr (sizeof(T) == 2) return static_cast<T>(__builtin_bswap16(value));
    if constexpr (sizeof(T) == 4) return static_cast<T>(__builtin_bswap32(value));
    if constexpr (sizeof(T) == 8) return static_cast<T>(__builtin_bswap64(value));
}

// How reading came to its end.
enum class FileEnd : std::uint8_t {
    none,       // not there yet
    whole,      // at the end of the last record
    truncated,  // the file ends inside a record, which was not handed over
    broken,     // what lies at `offset` cannot be a record
};

}  // namespace fh::receive
