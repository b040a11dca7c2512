// Up to sixteen price levels of one side: a node. Levels keep their slot while they live; a permutation gives
// their order, so that opening and closing a level moves sixteen bytes and no level. All keys lie in one
// cache line and are compared at once: how many are better is the rank.
#pragma once

#include <bit>
#include <cstdint>

#if defined(__SSE4_1__)
#include <immintrin.h>
#endif

#if defined(__SANITIZE_THREAD__)  // gcc
#define FH_THREAD_SANITIZER
#elif defined(__has_feature)  // clang
#if __has_feature(thread_sanitizer)
#define FH_THREAD_SANITIZER
#endif
#endif

namespace fh::book {

inline constexpr unsigned node_levels = 16;

struct Level {
    std::uint64_t size;    // shares
    std::uint32_t orders;  // how many
    std::uint32_t tail;    // handle of the order last in the queue
};
static_assert(sizeof(Level) == 16);

struct alignas(64) NodeLevels {
    std::uint32_t keys[node_levels];  // price_key; those of free slots mean nothing
    Level levels[node_levels];
};
static_assert(sizeof(NodeLevels) == 320);

// Written by one thread and read by others under a sequence lock: whole words, in program order. Volatile,
// because gcc takes an atomic builtin for a write to any memory, and would load every pointer of the books
// again behind each.
template <class T>
inline void store(T& to, T value) {
#if defined(FH_THREAD_SANITIZER)
    __atomic_store_n(&to, value, __ATOMIC_RELAXED);
#else
    *static_cast<volatile T*>(&to) = value;
#endif
}

// All ones or all zeros, where the compiler cannot see through it: of a choice between two values it makes a
// branch, and one that is a toss-up on late data costs more than the rest of the message.
inline std::uint32_t mask_of(bool condition) {
    std::uint32_t mask = 0u - static_cast<std::uint32_t>(condition);
    __asm__("" : "+r"(mask));
    return mask;
}
inline std::uint32_t choose(std::uint32_t mask, std::uint32_t yes, std::uint32_t no) {
    return no ^ ((yes ^ no) & mask);
}

struct KeyMatch {
    std::uint32_t equal;  // mask of slots
    unsigned better;      // how many levels have a smaller key: the rank
};

inline KeyMatch match_key(const std::uint32_t* keys, std::uint16_t used, std::uint32_t key) {
#if defined(__AVX512F__)
    const __m512i all = _mm512_load_si512(keys);
    const __m512i wanted = _mm512_set1_epi32(static_cast<int>(key));
    const std::uint32_t equal = _mm512_mask_cmpeq_epu32_mask(used, all, wanted);
    const std::uint32_t less = _mm512_mask_cmplt_epu32_mask(used, all, wanted);
#elif defined(__AVX2__)
    const __m256i bias =
        _mm256_set1_epi32(static_cast<int>(0x8000'0000u));  // AVX2 compares signed numbers only
    const __m256i wanted = _mm256_set1_epi32(static_cast<int>(key ^ 0x8000'0000u));
    std::uint32_t equal = 0;
    std::uint32_t less = 0;
    for (unsigned half = 0; half < 2; ++half) {
        const __m256i loaded = _mm256_load_si256(reinterpret_cast<const __m256i*>(keys + 8 * half));
        const __m256i eight = _mm256_xor_si256(loaded, bias);
        const __m256i is_equal = _mm256_cmpeq_epi32(eight, wanted);
        const __m256i is_less = _mm256_cmpgt_epi32(wanted, eight);
        equal |= static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(is_equal))) << (8 * half);
        less |= static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(is_less))) << (8 * half);
    }
    equal &= used;
    less &= used;
#else
    std::uint32_t equal = 0;
    std::uint32_t less = 0;
    for (unsigned i = 0; i < node_levels; ++i) {
        equal |= static_cast<std::uint32_t>(keys[i] == key) << i;
        less |= static_cast<std::uint32_t>(keys[i] < key) << i;
    }
    equal &= used;
    less &= used;
#endif
    return {equal, static_cast<unsigned>(std::popcount(less))};
}

// Sixteen slot numbers, best level first; those past the last level mean nothing.
struct alignas(16) Permutation {
    std::uint64_t words[2];

    unsigned at(unsigned rank) const {
        return static_cast<unsigned>(words[rank / 8] >> (8 * (rank % 8))) & (node_levels - 1);
    }
    // Rank node_levels changes nothing, so that whether to insert or erase needs no branch.
    void insert(unsigned rank, unsigned slot) {
#if defined(__SSE4_1__)
        // The shuffle leaves a zero at the rank; all slots behind it move up by one.
        const __m128i moved = _mm_shuffle_epi8(load_vector(), shuffles().insert[rank]);
        save_vector(
            _mm_or_si128(moved, _mm_and_si128(shuffles().at[rank], _mm_set1_epi8(static_cast<char>(slot)))));
#else
        if (rank == node_levels) return;
        const Wide all = load();
        const unsigned bits = 8 * rank;
        const Wide below = all & ((Wide{1} << bits) - 1);
        save(below | (Wide{slot} << bits) | (((all >> bits) << bits) << 8));
#endif
    }
    void erase(unsigned rank) {
#if defined(__SSE4_1__)
        save_vector(_mm_shuffle_epi8(load_vector(), shuffles().erase[rank]));
#else
        if (rank == node_levels) return;
        const Wide all = load();
        const unsigned bits = 8 * rank;
        const Wide below = all & ((Wide{1} << bits) - 1);
        save(below | (((all >> bits) >> 8) << bits));
#endif
    }

  private:
#if defined(__SSE4_1__)
    struct Shuffles {
        __m128i insert[node_levels + 1];
        __m128i erase[node_levels + 1];
        __m128i at[node_levels + 1];
    };
    static const Shuffles& shuffles() {
        struct Bytes {
            alignas(16) std::uint8_t insert[node_levels + 1][16];
            std::uint8_t erase[node_levels + 1][16];
            std::uint8_t at[node_levels + 1][16];
        };
        static constexpr Bytes bytes = [] {
            Bytes out{};
            for (unsigned rank = 0; rank <= node_levels; ++rank) {
                for (unsigned i = 0; i < 16; ++i) {
                    const auto byte = static_cast<std::uint8_t>(i);
                    out.insert[rank][i] = i < rank    ? byte
                                          : i == rank ? 0x80
                                                      : static_cast<std::uint8_t>(i - 1);
                    out.erase[rank][i] = i < rank ? byte : i == 15 ? 0x80 : static_cast<std::uint8_t>(i + 1);
                    out.at[rank][i] = i == rank ? 0xFF : 0;
                }
            }
            return out;
        }();
        return reinterpret_cast<const Shuffles&>(bytes);
    }
    __m128i load_vector() const { return _mm_load_si128(reinterpret_cast<const __m128i*>(words)); }
    void save_vector(__m128i all) {
#if defined(FH_THREAD_SANITIZER)
        store(words[0], static_cast<std::uint64_t>(_mm_cvtsi128_si64(all)));
        store(words[1], static_cast<std::uint64_t>(_mm_extract_epi64(all, 1)));
#else
        // One store, so that the next load of the whole is forwarded from it.
        *reinterpret_cast<volatile __m128i*>(words) = all;
#endif
    }
#else
    __extension__ using Wide = unsigned __int128;
    Wide load() const { return (Wide{words[1]} << 64) | words[0]; }
    void save(Wide all) {
        store(words[0], static_cast<std::uint64_t>(all));
        store(words[1], static_cast<std::uint64_t>(all >> 64));
    }
#endif
};

// A node wherever it lies: the best levels of a side in the shared table, deeper ones in private memory.
struct Node {
    NodeLevels& body;
    Permutation& order;
    std::uint16_t& used;  // mask of slots

    unsigned size() const { return static_cast<unsigned>(std::popcount(used)); }
    bool full() const { return used == 0xFFFF; }
    KeyMatch match(std::uint32_t key) const { return match_key(body.keys, used, key); }
    std::uint32_t key_at(unsigned rank) const { return body.keys[order.at(rank)]; }
    const Level& level_at(unsigned rank) const { return body.levels[order.at(rank)]; }

    // One more order at the end of its level's queue; the level is opened if it is not there and must then
    // find room. No branch: whether it is there is a toss-up, and known late. Returns the handle of the order
    // that was last in the queue, 0 if none.
    std::uint32_t add_order(const KeyMatch& match, std::uint32_t key, std::uint32_t handle,
                            std::uint32_t shares) {
        const std::uint32_t joins = mask_of(match.equal != 0);
        const std::uint32_t open = ~std::uint32_t{used} << node_levels;
        const auto slot = static_cast<unsigned>(std::countr_zero(match.equal | open)) % node_levels;
        Level& level = body.levels[slot];
        const std::uint32_t ahead = level.tail & joins;
        store(body.keys[slot], key);
        store(level.size, (level.size & (std::uint64_t{joins} << 32 | joins)) + shares);
        store(level.orders, (level.orders & joins) + 1);
        store(level.tail, handle);
        order.insert(choose(joins, node_levels, match.better), slot);
        store(used, static_cast<std::uint16_t>(used | (1u << slot)));
        return ahead;
    }
    // Closes a level if it is empty.
    void erase_if(bool empty, unsigned rank, unsigned slot) {
        const std::uint32_t closes = mask_of(empty);
        order.erase(choose(closes, rank, node_levels));
        store(used, static_cast<std::uint16_t>(used & ~((closes & 1) << slot)));
    }

    void insert(unsigned rank, std::uint32_t key, Level level) {
        const auto slot = static_cast<unsigned>(std::countr_one(used));
        store(body.keys[slot], key);
        store(body.levels[slot].size, level.size);
        store(body.levels[slot].orders, level.orders);
        store(body.levels[slot].tail, level.tail);
        order.insert(rank, slot);
        store(used, static_cast<std::uint16_t>(used | (1u << slot)));
    }
    void erase(unsigned rank, unsigned slot) {
        order.erase(rank);
        store(used, static_cast<std::uint16_t>(used & ~(1u << slot)));
    }
    void erase(unsigned rank) { erase(rank, order.at(rank)); }
};

}  // namespace fh::book
