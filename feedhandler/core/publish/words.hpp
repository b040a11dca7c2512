// Copies of shared memory that another process may be writing: word by word, relaxed atomic, so that a torn
// copy is possible but never undefined; the caller validates afterwards (Boehm, "Can seqlocks get along with
// programming language memory models?").
#pragma once

#include <cstddef>
#include <cstdint>

namespace fh::publish {

using Word [[gnu::may_alias]] = std::uint64_t;

// Both pointers 8-byte aligned, `bytes` a multiple of 8.
inline void load_words(void* to, const void* from, std::size_t bytes) {
    auto* target = static_cast<Word*>(to);
    const auto* source = static_cast<const Word*>(from);
    for (std::size_t i = 0; i < bytes / sizeof(Word); ++i)
        target[i] = __atomic_load_n(source + i, __ATOMIC_RELAXED);
}

inline void store_words(void* to, const void* from, std::size_t bytes) {
    auto* target = static_cast<Word*>(to);
    const auto* source = static_cast<const Word*>(from);
    for (std::size_t i = 0; i < bytes / sizeof(Word); ++i)
        __atomic_store_n(target + i, source[i], __ATOMIC_RELAXED);
}

inline void store_word(void* to, std::uint64_t value) {
    __atomic_store_n(static_cast<Word*>(to), value, __ATOMIC_RELAXED);
}

}  // namespace fh::publish
